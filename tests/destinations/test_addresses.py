"""Which addresses may be connected to: the judge's tables, and the resolver."""

import asyncio
import socket
import threading
from ipaddress import ip_network

import pytest

from mailvane.destinations.addresses import Policy, SystemResolver

ANY = Policy()
PUBLIC = Policy("public")

REFUSED_ALWAYS = [
    "169.254.169.254",
    "fd00:ec2::254",
    "168.63.129.16",
    "100.100.100.200",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1%3",
    "224.0.0.1",
    "239.255.255.250",
    "ff02::1",
    "255.255.255.255",
    "0.0.0.0",
    "::",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::100.100.100.200",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:5601:5601",  # Teredo: the client is 169.254.169.254
    "2001:0:a9fe:a9fe::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "0.1.2.3",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "240.0.0.1",
    "254.1.2.3",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "100::1",
    "2001:db8::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "::ffff:0:10.1.2.3",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "2001:0:808:808::1",
]
OPEN = [
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "198.20.0.1",
    "223.255.255.254",
    "2606:4700::1111",
    "2a00:1450:4001::200e",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]


@pytest.mark.parametrize("ip", REFUSED_ALWAYS)
def test_s7_metadata_link_local_and_multicast_are_refused_whatever_is_allowed(ip: str) -> None:
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"), ip_network("169.254.169.254/32"))
    for policy in (ANY, PUBLIC, Policy(allow=everything), Policy("public", allow=everything)):
        reason = policy.judge(ip, 80)
        assert reason is not None and "always refused" in reason


@pytest.mark.parametrize("ip", PRIVATE)
def test_s4_s5_public_refuses_private_networks_in_every_guise(ip: str) -> None:
    reason = PUBLIC.judge(ip, 443)
    assert reason is not None and "destination_networks is public" in reason


@pytest.mark.parametrize("ip", PRIVATE)
def test_s4_any_lets_private_networks_in(ip: str) -> None:
    assert ANY.judge(ip, 6379) is None


@pytest.mark.parametrize("ip", OPEN)
def test_s4_public_addresses_are_open_to_all(ip: str) -> None:
    assert ANY.judge(ip, 80) is None
    assert PUBLIC.judge(ip, 80) is None


@pytest.mark.parametrize(
    ("allow", "deny", "ip", "allowed"),
    [
        (["10.0.0.0/8"], [], "10.1.2.3", True),
        (["10.0.0.0/8"], [], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], [], "64:ff9b::10.1.2.3", True),
        (["10.0.0.0/8"], [], "192.168.0.1", False),
        (["10.0.0.0/8"], ["10.1.0.0/16"], "10.1.2.3", False),
        (["10.0.0.0/8"], ["10.1.0.0/16"], "10.2.2.3", True),
        (["10.1.0.0/16"], ["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], ["10.0.0.0/8"], "10.1.2.3", False),
        ([], ["8.8.8.0/24"], "8.8.8.8", False),
        ([], ["8.8.8.0/24"], "2002:808:808::1", False),
        (["8.8.8.8/32"], ["8.8.8.0/24"], "8.8.8.8", True),
        (["::1/128"], [], "::1", True),
        (["fd00::/8"], [], "fd00:ec2::254", False),
    ],
)
def test_s4_of_allow_and_deny_the_narrower_wins(allow: list[str], deny: list[str], ip: str, allowed: bool) -> None:
    policy = Policy("public", tuple(map(ip_network, allow)), tuple(map(ip_network, deny)))
    assert (policy.judge(ip, 80) is None) is allowed


def test_s4_deny_works_with_any() -> None:
    assert Policy(deny=(ip_network("127.0.0.0/8"),)).judge("127.0.0.1", 80) is not None


@pytest.mark.parametrize("port", [22, 25, 110, 143, 465, 587, 3306, 5432, 6379, 11211, 27017])
def test_s13_public_refuses_ports_of_other_services(port: int) -> None:
    assert PUBLIC.judge("8.8.8.8", port) is not None
    assert ANY.judge("8.8.8.8", port) is None


@pytest.mark.parametrize("port", [80, 443, 3000, 8000, 8080, 8443, 9000])
def test_s13_public_lets_ports_of_http_in(port: int) -> None:
    assert PUBLIC.judge("8.8.8.8", port) is None


@pytest.mark.parametrize("ip", ["", "localhost", "1.2.3", "0x7f.1", "2130706433", "::g", "127.0.0.1/8"])
def test_s6_what_is_no_address_is_refused(ip: str) -> None:
    assert ANY.judge(ip, 80) is not None


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "017700000001", "localhost", "localhost."])
def test_s6_odd_spellings_of_loopback_are_judged_after_resolution(host: str) -> None:
    async def resolved() -> list[str]:
        try:
            return list(await SystemResolver().resolve(host, 80))
        except OSError:
            assert host == "localhost."  # not every machine's resolver knows the absolute name
            return []

    addresses = asyncio.run(resolved())
    assert set(addresses) <= {"127.0.0.1", "::1"} and (addresses or host == "localhost.")
    assert all(PUBLIC.judge(ip, 80) is not None for ip in addresses)
    assert all(ANY.judge(ip, 80) is None for ip in addresses)


def test_s10_a_name_that_cannot_be_is_an_oserror() -> None:
    for host in ("", "a" * 70 + ".example", "no such name.invalid"):
        with pytest.raises(OSError):
            asyncio.run(SystemResolver().resolve(host, 80))


def test_d19_without_a_thread_a_name_does_not_resolve_until_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    async def test() -> None:
        resolver = SystemResolver()
        with monkeypatch.context() as short:
            short.setattr("mailvane.destinations.addresses.threading.Thread", NoThread)
            for _ in range(2):
                with pytest.raises(OSError, match="thread"):
                    await asyncio.wait_for(resolver.resolve("localhost", 80), 30)
            assert await resolver.resolve("192.0.2.1", 80) == ["192.0.2.1"], "an address needs no resolving"
            assert await resolver.resolve("2001:db8::1", 80) == ["2001:db8::1"]
        assert await resolver.resolve("localhost", 80)

    asyncio.run(test())


def test_s10_connections_opened_together_ask_the_name_server_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = socket.getaddrinfo

    def counted(*arguments: object, **options: object) -> object:
        asked.append(arguments)
        return real("127.0.0.1", 80, type=socket.SOCK_STREAM)

    async def many() -> None:
        resolver = SystemResolver(keep=0.05)
        # Only the resolver's own look-ups count; the loop's own go on as they are.
        monkeypatch.setattr("mailvane.destinations.addresses.socket.getaddrinfo", counted)
        answers = await asyncio.gather(*(resolver.resolve("name.invalid", 80) for _ in range(20)))
        assert all(list(answer) == ["127.0.0.1"] for answer in answers)
        assert len(asked) == 1
        while ("name.invalid", 80) in resolver._asked:
            await asyncio.sleep(0.01)
        await resolver.resolve("name.invalid", 80)
        assert len(asked) == 2

    asyncio.run(many())
