"""TLS as a client speaks it: certificate and host name always checked, 1.2 or later, never less for anybody's sake."""

import ssl
from collections.abc import Sequence


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """Trusts the system's certificates and those of `ca_file` (PEM) beside them.

    Raises OSError (ssl.SSLError among them) if that file cannot be read or has no certificate in it. Revocation lists
    and OCSP are not asked: a name server or an authority that is away stalls no delivery.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class _NamedContext(ssl.SSLContext):
    """Speaks for one host, whatever address was connected to: drivers of databases only know that address."""

    name = ""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.name or server_hostname, session)


def database_context(host: str, verify: bool, verify_host: bool, ca_files: Sequence[str] = ()) -> ssl.SSLContext:
    """For a database at `host`. Who checks trusts the system's certificates and those of `ca_files` beside them.

    Raises OSError as `client_context` does.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.name = host
    context.check_hostname = verify_host
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if verify:
        context.load_default_certs()
        for file in ca_files:
            context.load_verify_locations(file)
    return context


def reason(error: ssl.SSLError) -> str:
    """Why the handshake failed, in OpenSSL's words without its file names and numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {error.verify_message}"
    return (error.reason or str(error)).lower().replace("_", " ")
