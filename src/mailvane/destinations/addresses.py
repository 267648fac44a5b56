"""Which addresses destinations may reach, and how names become addresses.

The judge is pure and has a list of networks of its own: `ipaddress.is_global` calls 64:ff9b::a9fe:a9fe and ::127.0.0.1
global and changes between versions of Python. It judges the address that is connected to, never a name: whatever
2130706433, 0x7f.1, circled digits or a rebinding name server make of it, it comes out as an address.
After the IANA special-purpose address registries (RFC 6890), RFC 6052 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo).
"""

import asyncio
import errno
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, Protocol

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _table(*rows: tuple[str, str]) -> tuple[tuple[Network, str], ...]:
    return tuple((ip_network(network), reason) for network, reason in rows)


_NEVER = _table(
    # The metadata services first: their reason is the one that tells most.
    ("169.254.169.254/32", "a cloud's metadata service"),
    ("fd00:ec2::254/128", "a cloud's metadata service"),
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("100.100.100.200/32", "a cloud's metadata service"),
    ("169.254.0.0/16", "link-local"),
    ("fe80::/10", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("0.0.0.0/32", "unspecified"),
    ("::/128", "unspecified"),
)
"""Refused whatever is allowed."""

_NOT_PUBLIC = _table(
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved for protocols"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("240.0.0.0/4", "reserved"),
    ("::1/128", "loopback"),
    ("64:ff9b:1::/48", "private NAT64"),
    ("100::/64", "discard-only"),
    ("2001:db8::/32", "documentation"),
    ("2001::/23", "reserved for protocols"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
    ("fec0::/10", "site-local"),
)
_WRAPPING = tuple(map(IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
"""NAT64, SIIT, and ::a.b.c.d (RFC 4291, deprecated; :: and ::1 are themselves): an IPv4 address at the end."""
_PUBLIC_V6 = (IPv6Network("2000::/3"), *_WRAPPING)
"""Beyond these no IPv6 address is public; those that wrap an IPv4 address are as public as that one."""

_OTHER_SERVICES = frozenset(
    {
        *(1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109),
        *(110, 111, 113, 115, 117, 119, 123, 135, 137, 138, 139, 143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515),
        *(526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 873, 989, 990, 993, 995, 1433, 1521, 1719, 1720),
        *(1723, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4190, 5060, 5061, 5432, 5672, 5900, 6000, 6379, 6380),
        *(6566, 6665, 6666, 6667, 6668, 6669, 6697, 9042, 11211, 27017),
    }
)
"""Ports on which something else than HTTP listens, that a POST could be taken for a command by."""


@dataclass(frozen=True)
class Policy:
    """What destinations may reach: the settings `destination_networks`, `allow_network` and `deny_network`.

    `any` is everything but what nothing opens: link-local, metadata services, multicast, unspecified. `public` refuses
    loopback, private and reserved networks too, and ports of services that do not speak HTTP. Of the networks in
    `allow` and `deny` that an address is in, the narrowest decides; of two alike, `deny`.
    """

    networks: Literal["any", "public"] = "any"
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    def judge(self, ip: str, port: int | None) -> str | None:
        """None if this address may be connected to, else why not, for people. `port` is that of an HTTP endpoint."""
        try:
            address = ip_address(ip.partition("%")[0])
        except ValueError:
            return f"{ip} is no IP address"
        if self.networks == "public" and port in _OTHER_SERVICES:
            return f"port {port} is not one for HTTP"
        for refuses in (_always, self._refuses):
            for form in forms(address):
                if reason := refuses(form):
                    wrapped = "" if form == address else f" (that is {form})"
                    return f"{address}{wrapped} is {reason}"
        return None

    def _refuses(self, address: Address) -> str | None:
        allowed = max((network.prefixlen for network in self.allow if address in network), default=-1)
        denied = max((network.prefixlen for network in self.deny if address in network), default=-1)
        if denied >= 0 and denied >= allowed:
            return "in a network that deny_network names"
        if allowed >= 0 or self.networks == "any":
            return None
        for network, reason in _NOT_PUBLIC:
            if address in network:
                return f"{reason}, and destination_networks is public"
        if isinstance(address, IPv6Address) and not any(address in network for network in _PUBLIC_V6):
            return "not a public address, and destination_networks is public"
        return None


def _always(address: Address) -> str | None:
    for network, reason in _NEVER:
        if address in network:
            return f"{reason}, which is always refused"
    return None


def forms(address: Address) -> list[Address]:
    """The address and every IPv4 address that may be reached through it; an IPv4-mapped one is that one alone."""
    if isinstance(address, IPv4Address):
        return [address]
    bits = int(address)
    low = IPv4Address(bits & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    inner: list[Address] = []
    if bits > 1 and any(address in network for network in _WRAPPING):
        inner = [low]
    elif address in IPv6Network("64:ff9b:1::/48"):  # RFC 8215: whatever prefix length the site chose
        split = IPv4Address(((bits >> 64) & 0xFFFF) << 16 | (bits >> 40) & 0xFFFF)
        inner = [form for form in (low, split) if int(form)]
    elif address in IPv6Network("2002::/16"):
        inner = [IPv4Address((bits >> 80) & 0xFFFFFFFF)]
    elif address in IPv6Network("2001::/32"):  # the Teredo server, and the client behind a NAT
        inner = [IPv4Address((bits >> 64) & 0xFFFFFFFF), IPv4Address(~bits & 0xFFFFFFFF)]
    return [address, *inner]


class Resolver(Protocol):
    """Names to addresses."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The host's addresses in the order in which they are to be tried. Raises OSError if there are none."""
        ...


class SystemResolver:
    """getaddrinfo, in a thread of its own for each name: one that never answers holds nothing else up.

    What it says is kept for `keep` seconds, so that connections that are opened together ask once; the threads are
    daemons, so that a process can end while a name server is silent.
    """

    def __init__(self, keep: float = 5.0) -> None:
        self._keep = keep
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """See Resolver. Raises socket.gaierror as getaddrinfo does; the caller sets the deadline."""
        if _is_address(host):
            return [host]
        asked = self._asked.get((host, port))
        if asked is None:
            asked = self._ask(host, port)
        return await asyncio.shield(asked)

    def _ask(self, host: str, port: int) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        self._asked[host, port] = answer

        def forget() -> None:
            self._asked.pop((host, port), None)

        def settle(addresses: list[str], error: OSError | None) -> None:
            if error is None:
                answer.set_result(addresses)
                loop.call_later(self._keep, forget)
            else:
                answer.set_exception(error)
                answer.exception()  # nobody may be waiting any more
                forget()

        def look_up() -> None:
            found: list[str] = []
            error: OSError | None = None
            try:
                found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            except UnicodeError as broken:
                error = OSError(f"{host!r} is no host name: {broken}")
            except OSError as refused:
                error = refused
            try:
                loop.call_soon_threadsafe(settle, found, error)
            except RuntimeError:  # the loop has ended: nobody asks any more
                return

        try:
            threading.Thread(target=look_up, name=f"resolving {host}", daemon=True).start()
        except RuntimeError:
            settle([], OSError(errno.EAGAIN, "no thread can be started to resolve it"))
        return answer


def _is_address(host: str) -> bool:
    """Nobody need be asked. What getaddrinfo takes for an address beside these (`127.1`) is left to it."""
    try:
        return not getattr(ip_address(host), "scope_id", None)
    except ValueError:
        return False
