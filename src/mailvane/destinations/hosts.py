"""Host names in ASCII, as the resolver, SNI, the Host header and logs have them."""

import re

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)


def ascii_name(host: str) -> str:
    """The name in lower case, other letters as punycode (RFC 3490). Raises ValueError with a reason without the name.

    Odd numbers such as `0x7f.1` are good names here: where a name leads is judged when it is connected to.
    """
    try:
        # IDNA 2003, as the standard library has it; it also turns full-width and circled digits into plain ones.
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("the URL's host is no name that can be written in ASCII (IDNA)") from None
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("the URL's host is no host name: letters, digits, - and _, parts of 1 to 63 with dots between")
    return name.lower()
