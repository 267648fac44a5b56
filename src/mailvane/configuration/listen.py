"""Where the API listens: what `http_listen` says."""

import ipaddress
import re
from dataclasses import dataclass

WANTED = "wanted ADDR:PORT, such as 127.0.0.1:8425 or [::1]:8425"


@dataclass(frozen=True)
class Listen:
    """Where to listen: host without brackets, and port (0: any that is free)."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower().removesuffix(".") == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


USUAL = Listen("127.0.0.1", 8425)


def listen_in(text: str) -> Listen:
    """What a text like `ADDR:PORT` names. Raises ValueError with what was found and what is wanted."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError(f"found no address with a port, {WANTED}")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"found no port from 0 to 65535 after the last colon, {WANTED}")
    host = host[1:-1] if bracketed else host
    try:
        address = ipaddress.ip_address(host)
        right = bracketed == (address.version == 6)
    except ValueError:
        right = not bracketed and bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9._-]+", host))
    if not right:
        raise ValueError(f"found no address before the last colon, {WANTED}; 0.0.0.0 is every address")
    return Listen(host, int(port))
