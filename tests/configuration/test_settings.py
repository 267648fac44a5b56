"""mailvane.conf: values with their defaults, or every mistake with its place."""

import socket
from ipaddress import ip_network
from itertools import permutations
from pathlib import Path

import pytest

from mailvane.configuration.directives import DIRECTIVES, commented_file
from mailvane.configuration.listen import Listen
from mailvane.configuration.mistakes import render
from mailvane.configuration.settings import Settings, load_settings, read_settings
from mailvane.destinations.addresses import Policy
from mailvane.errors import SettingsBroken

HOME = Path("/srv/home")


def settings(text: str) -> Settings:
    read = read_settings(text.encode(), HOME)
    assert read.settings, read.mistakes
    return read.settings


def told(text: str) -> list[tuple[int, int, str]]:
    read = read_settings(text.encode(), HOME)
    assert (read.settings is None) == bool(read.mistakes)
    return [(m.line, m.column, m.message) for m in read.mistakes]


def test_defaults():
    got = settings("")
    assert got == Settings(HOME, socket.gethostname(), HOME / "queue.db", HOME / "control")
    assert (got.http_listen, got.bounce_text_length, got.destination_networks) == (
        Listen("127.0.0.1", 8425),
        1000,
        "any",
    )
    assert got.legacy_file == HOME / "control" / "event_processor.json"


def test_the_file_that_init_writes_changes_no_default():
    assert settings(commented_file()) == settings("")
    assert settings(commented_file("sqlite:/data/q.db")).queue_file == Path("/data/q.db")


def test_every_directive():
    got = settings(
        "server_id mail-1.example\n"
        "queue sqlite:data/q.db\n"
        "control_directory /var/hvmail/control\n"
        'http_listen "[::]:8425"\n'
        "api_token @file:token\n"
        "tls_ca_file ca.pem\n"
        "destination_networks public\n"
        "allow_network 10.0.0.0/8 fd00::/8\n"
        "allow_network 192.0.2.7\n"
        "deny_network 10.1.0.0/16\n"
        "maildir mail\nmaildir /var/mail/bounces\nmaildir mail\n"
        "bounce_text_length 0\n"
        "keep_delivered 7d\n"
    )
    assert got.api_token and repr(got.api_token) == "Secret(@file:/srv/home/token)"
    assert got == Settings(
        home=HOME,
        server_id="mail-1.example",
        queue_file=HOME / "data/q.db",
        control_directory=Path("/var/hvmail/control"),
        http_listen=Listen("::", 8425),
        api_token=got.api_token,
        tls_ca_file=HOME / "ca.pem",
        destination_networks="public",
        allow_networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7/32")),
        deny_networks=(ip_network("10.1.0.0/16"),),
        maildirs=(HOME / "mail", Path("/var/mail/bounces")),
        bounce_text_length=0,
        keep_delivered=7 * 86_400,
    )


def test_networks_add_up_over_lines_in_any_order_and_the_narrower_one_wins():
    lines = ["deny_network 10.1.0.0/16\n", "allow_network 10.0.0.0/8\n", "deny_network 10.2.0.0/16\n"]
    for order in permutations(lines):
        got = settings("destination_networks public\n" + "".join(order))
        policy = Policy(got.destination_networks, got.allow_networks, got.deny_networks)
        assert [policy.judge(ip, 80) is None for ip in ("10.0.0.1", "10.1.0.1", "10.2.0.1", "192.168.0.1")] == [
            True,
            False,
            False,
            False,
        ]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("0", 0), ("0d", 0), ("90s", 90), ("30min", 1_800), ("30m", 1_800), ("12h", 43_200), ("4w", 2_419_200)],
)
def test_a_duration_has_its_unit(given: str, seconds: int):
    assert settings(f"keep_delivered {given}\n").keep_delivered == seconds


def test_of_a_directive_that_stands_twice_the_last_holds():
    assert settings("http_listen 127.0.0.1:1\nhttp_listen 127.0.0.1:2\n").http_listen.port == 2


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [("127.8.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("0.0.0.0:1", False), ("[::]:1", False),
     ("10.0.0.1:0", False), ("mail.example:1", False)],
)  # fmt: skip
def test_a_token_is_needed_beyond_loopback(listen: str, loopback: bool):
    found = told(f"server_id a\nhttp_listen {listen}\n")
    assert bool(found) != loopback
    if found:
        assert found[0][:2] == (2, 13) and "api_token" in found[0][2]
    assert not told(f"api_token t\nhttp_listen {listen}\n")
    assert str(settings(f"api_token t\nhttp_listen {listen}\n").http_listen) == listen


MISTAKES = [
    ("server_id", 1, 1, '"server_id" has no value, wanted server_id NAME'),
    ("server_id a b", 1, 13, "found a second value, wanted server_id NAME"),
    ("server_id a, b", 1, 12, "found a comma"),
    ('server_id ""', 1, 11, "found an empty value"),
    ('server_id "a b"', 1, 11, "1 to 64 letters"),
    (r'server_id "a\u0000"', 1, 11, "control characters"),
    ("queue postgresql://h:0/d", 1, 7, "its port is no number from 1 to 65535"),
    ("queue queue.db", 1, 7, "wanted sqlite:FILE"),
    ('queue "postgresql://h/d?schema=a;b"', 1, 7, "letters, digits"),
    ("queue @file:", 1, 7, "wanted @file:PATH"),
    ("queue sqlite:", 1, 7, "found no path"),
    ("queue sqlite::memory:", 1, 7, "found no path"),
    ("queue sqlite:///a", 1, 7, "sqlite:/PATH/FILE"),
    ("http_listen 8425", 1, 13, "found no address with a port"),
    ("http_listen ::1:8425", 1, 13, "found no address with a port"),
    ("http_listen [127.0.0.1]:1", 1, 13, "found no address before"),
    ("http_listen *:1", 1, 13, "0.0.0.0 is every address"),
    ("http_listen 300.0.0.1:1", 1, 13, "found no address before"),
    ("http_listen 127.0.0.1:65536", 1, 13, "found no port"),
    ("api_token @vault:x", 1, 11, "@file:PATH or @env:NAME"),
    ("api_token @file:", 1, 11, "found no path after @file:"),
    ('api_token "a b"', 1, 11, "printable ASCII"),
    ("destination_networks private", 1, 22, 'found "private", wanted any or public'),
    ("allow_network 10.0.0.1/8", 1, 15, "without an address in it: 10.0.0.0/8"),
    ("deny_network 10.0.0.0/8 ten", 1, 25, "wanted a network such as"),
    ("bounce_text_length -1", 1, 20, "a whole number from 0"),
    ("bounce_text_length ٣", 1, 20, "found U+0663"),
    ("keep_delivered 7", 1, 16, "wanted 0 or up to ten years, such as 30min, 12h, 7d, 4w"),
    ("keep_delivered -1d", 1, 16, "wanted 0 or up to ten years"),
    ("keep_delivered 11000d", 1, 16, "wanted 0 or up to ten years"),
    ("keep_delivered 1d 2h", 1, 19, "found a second value"),
    ("server-id a", 1, 1, '"server-id" is no directive; did you mean "server_id"?'),
    ("queu sqlite:q.db", 1, 1, '"queu" is no directive; did you mean "queue"?'),
    ("HTTP_listen 127.0.0.1:1", 1, 1, 'did you mean "http_listen"?'),
    ("control_directory @env:DIR", 1, 19, '"control_directory" takes no reference'),
    ("tls_ca_file @file:/etc/ca", 1, 13, '"tls_ca_file" takes no reference'),
    ('server_id "@env:HOST"', 1, 11, '"server_id" takes no reference'),
    ("event_delivery_destinaton x {\n}", 1, 1, 'did you mean "event_delivery_destination"?'),
    ("server_id {\n}", 1, 1, "is no block, wanted server_id NAME"),
    ("event_delivery_url https:x", 1, 1, "not there yet"),
    *((f"{d.name} {'x {' if d.block else 'x'}\n{'}' if d.block else ''}", 1, 1, f'"{d.name}" is not there yet')
      for d in DIRECTIVES.values() if d.later),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "words"), MISTAKES, ids=[m[0].split("\n")[0] for m in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(text: str, line: int, column: int, words: str):
    found = told(text)
    assert any((a, b) == (line, column) and words in message for a, b, message in found), found


def test_every_mistake_in_one_go():
    text = "servr_id a\nserver_id a\nqueue server_id\nhttp_listen 0.0.0.0:1\nserver_id ü\n"
    text += "public_url https://m.example\nx {\n"
    read = read_settings(text.encode(), HOME)
    assert (
        render(read.mistakes, read.text, "mailvane.conf")
        == """\
mailvane.conf:1:1: "servr_id" is no directive; did you mean "server_id"?
    servr_id a
    ^
mailvane.conf:3:7: found no queue that is known, wanted sqlite:FILE or postgresql://USER@HOST/DATABASE
    queue server_id
          ^
mailvane.conf:4:13: beyond loopback the API needs a token; add a line: api_token @file:PATH
    http_listen 0.0.0.0:1
                ^
mailvane.conf:5:11: found U+00FC in a bare word, wanted double quotes around the value
    server_id ü
              ^
mailvane.conf:6:1: "public_url" is not there yet
    public_url https://m.example
    ^
mailvane.conf:7:1: the block "x" is never closed, wanted a line with }
    x {
    ^"""
    )


def test_a_file_from_greenarrow_does_no_harm_and_each_name_is_reported_once():
    read = read_settings(
        b"""general {
  system_max_smtp_connections 5000
  define_mail_classes_in_config_file yes
}
mail_class a, b {
  nested {
    x "1"
  }
}
mail_class c {
}
engine_time_zone UTC
colour red
server_id s1
smtp_source a, "b"
colour blue
""",
        HOME,
    )
    assert read.settings and read.settings.server_id == "s1"
    assert read.settings.ignored == ("general", "mail_class", "engine_time_zone", "colour", "smtp_source")
    assert [(m.line, m.column, m.message) for m in read.ignored] == [
        (1, 1, '"general" is not mailvane\'s and is ignored'),
        (5, 1, '"mail_class" is not mailvane\'s and is ignored'),
        (12, 1, '"engine_time_zone" is not mailvane\'s and is ignored'),
        (13, 1, '"colour" is not mailvane\'s and is ignored'),
        (15, 1, '"smtp_source" is not mailvane\'s and is ignored'),
    ]


def test_c2_bytes_that_are_no_text_are_told_with_their_place(tmp_path: Path):
    assert told("\ufeffserver_id a")[0] == (
        1,
        1,
        "the file begins with a byte order mark; save it as UTF-8 without one",
    )
    (tmp_path / "mailvane.conf").write_bytes("server_id a\n# ü".encode("latin-1"))
    with pytest.raises(SettingsBroken, match=r"mailvane\.conf:2:3: byte 0xfc is no UTF-8 here"):
        load_settings(tmp_path)
    (tmp_path / "mailvane.conf").unlink()
    with pytest.raises(SettingsBroken, match="is not there"):
        load_settings(tmp_path)


@pytest.mark.parametrize("url", ["postgresql://m:s3cret-word@db.example:5433/mail", "@env:MAILVANE_QUEUE"])
def test_a_queue_in_postgresql_is_a_url_or_a_reference_to_one_and_is_not_shown(url: str):
    got = settings(f'queue "{url}"\n')
    assert got.queue_url is not None and "s3cret-word" not in repr(got)


def test_the_file_of_a_reference_is_looked_for_in_home():
    got = settings("queue @file:url.txt\n")
    assert repr(got.queue_url) == "Secret(@file:/srv/home/url.txt)"
