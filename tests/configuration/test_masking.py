"""C9: what is secret in a file is never shown, whatever the file's state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.configuration.legacy import read_legacy
from mailvane.configuration.masking import mask_text
from mailvane.configuration.mistakes import render
from mailvane.configuration.secrets import Secret
from mailvane.configuration.settings import read_settings

CANARY = "c4n4ry"

# Each has a mistake on the very line of the secret.
C9_LEGACY = [
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "https://u:CANARY@h/"}}]}',
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "https://CANARY@h/"}}]}',
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "https://h/p?k=CANARY"}}]}',
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "https://h/#CANARY"}}]}',
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "https://u:CANARY?x@h/"}}]}',
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "https://u:CAN/CANARY@h/"}}]}',
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "u:CANARY@h/"}}]}',
    '{"event_destinations": [{"matches": {}, "destination": {"type": "http_post", "url": "http:/u:CANARY@h?CANARY"}}]}',
    '{"event_destinations": [{"destination": {"type": "mysql", "db_password": "CANARY", "db_dsn": "x:CANARY"}}]}',
    '{"event_destinations": [{"destination": {"type": "mysql", "db_pasword": "CAN\\"CANARY"}}]}',
    "{'event_destinations': [{'destination': {'url': 'https://u:CANARY@h/?CANARY', 'db_password': 'CANARY'}}]}",
    "{event_destinations: [{destination: {url: https://u:CANARY@h/?CANARY, db_password: CANARY}}]}",
    '{"event_destinations": "https://u:CANARY@h/?CANARY"}',
    '{"configuration_mode": "https://u:CANARY@h/?CANARY"}',
    '{"url": "https://u:CANARY',
    '{"url": "https://h/x?CANARY',
    '{"db_password": "CANARY',
]


@pytest.mark.parametrize("text", C9_LEGACY)
def test_c9_a_canary_in_a_legacy_file_is_never_shown(text: str):
    text = text.replace("CANARY", CANARY)
    read = read_legacy(text.encode())
    assert read.mistakes
    assert CANARY not in render(read.mistakes, read.text, "f")
    assert CANARY not in repr(read.mistakes)


@given(st.sampled_from(C9_LEGACY[:10]), st.data())
def test_c9_nor_in_one_that_is_half_written(text: str, data: st.DataObject):
    text = text.replace("CANARY", CANARY)
    read = read_legacy(text[: data.draw(st.integers(0, len(text)))].encode())
    assert read.mistakes
    shown = render(read.mistakes, read.text, "f")
    # Before its @ a user's name is not to be told from a host's.
    assert CANARY not in shown or "://CANARY@" in text.replace(CANARY, "CANARY")


@pytest.mark.parametrize(
    "text",
    ["api_token CANARY more", 'api_token "CANARY more', 'api_tokn "CANARY"', "api_token `CANARY` ü", "queue postgresql://u:CANARY@h:0/d"],
)  # fmt: skip
def test_c9_a_canary_in_mailvane_conf_is_never_shown(text: str, tmp_path):
    read = read_settings(text.replace("CANARY", CANARY).encode(), tmp_path)
    assert read.mistakes
    assert CANARY not in render(read.mistakes, read.text, "f") + repr(read.mistakes)


def test_c9_a_token_is_not_in_the_text_of_the_settings(tmp_path):
    read = read_settings(f"api_token {CANARY}".encode(), tmp_path)
    assert read.settings and read.settings.api_token and read.settings.api_token.read() == CANARY
    assert CANARY not in repr(read.settings) + str(read.settings)
    assert repr(Secret("@env:X")) == "Secret(@env:X)"


def test_c9_the_names_of_routes_have_no_query():
    text = (
        '{"event_destinations": [{"matches": {"all": true}, "destination": '
        f'{{"type": "http_post", "url": "https://h/p?k={CANARY}"}}}}]}}'
    )
    read = read_legacy(text.encode())
    assert read.plan and read.plan.routes[0].name == "http_post https://h/p?..."


@given(st.text(alphabet="urltokenpass:/@?\"'` \n{}=,\\ü", max_size=60))
def test_masking_keeps_every_place(text: str):
    masked = mask_text(text)
    assert len(masked) == len(text) and [i for i, c in enumerate(masked) if c == "\n"] == [
        i for i, c in enumerate(text) if c == "\n"
    ]


@pytest.mark.parametrize(
    "piece", ["://", "token ", "url ", '"', "://@", "token\\", "pass" + " " * 50, "url\n", "?", "@"]
)
def test_masking_takes_time_in_proportion(piece: str):
    # Quadratic expressions would take minutes here.
    mask_text(piece * (1_000_000 // len(piece)))


def test_what_is_not_secret_stays():
    text = '{"matches": {"mail_class": "password"}, "destination": {"type": "http_post", "url": "https://h:8080/a/b"}}'
    assert mask_text(text) == text
    assert mask_text('"url": "@env:HOOK", "api_token": "@file:/x"') == '"url": "@env:HOOK", "api_token": "@file:/x"'
