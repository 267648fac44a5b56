"""Which addresses may stand in a configuration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailvane.configuration.masking import mask_url
from mailvane.configuration.urls import BadUrl, ascii_url

S12 = [
    ("https://user:canary@host/", "only stand where a reference leads"),
    ("https://user@host/", "user or password"),
    ("https://host/#canary", "fragment"),
    ("https://host/\r\nX: canary", "line break"),
    ("https://host/\npath", "line break"),
    ("https://host/a b", "a space"),
    (" https://host/", "a space"),
    ("https://host/\t", "U+0009"),
    ("https://host/\x00", "U+0000"),
    ("https://host/\x7f", "U+007F"),
    ("https://host/\u2028", "U+2028"),
    ("https://host\u00a0/", "U+00A0"),
    ("https:\\\\host\\", "backslash"),
    ("https://host/a\\b", "backslash"),
    ("file:///etc/passwd", "the scheme file"),
    ("gopher://host/", "the scheme gopher"),
    ("unix:///run/sock", "the scheme unix"),
    ("ftp://host/", "the scheme ftp"),
    ("javascript:alert(1)", "no scheme"),
    ("host/path", "no scheme"),
    ("//host/path", "no scheme"),
    ("https:/host", 'lacks "//" after https:'),
    ("", "empty"),
    ("https://", "no host"),
    ("https:///path", "no host"),
    ("https://:443/", "no host"),
    ("https://?q", "no host"),
    ("https://host:0/", "port"),
    ("https://host:65536/", "port"),
    ("https://host:/", "port"),
    ("https://host:8a/", "port"),
    ("https://host:٣/", "port"),
    ("https://host:80:80/", "port"),
    ("https://a..b/", "no host name"),
    ("https://-a/", "no host name"),
    ("https://a_b%41/", "no host name"),
    ("https://" + "a" * 64 + "/", "no host name"),
    ("https://" + "a." * 130 + "/", "no host name"),
    ("https://[::1/", "IPv6"),
    ("https://[fe80::1%eth0]/", "IPv6"),
    ("https://[127.0.0.1]/", "IPv6"),
    ("https://[::1]x/", "IPv6"),
    ("https://host/ä", "ASCII after its host"),
    ("https://\ud800/", "U+D800"),
]


@pytest.mark.parametrize(("url", "words"), S12, ids=[repr(u[:30]) for u, _ in S12])
def test_s12_a_url_that_will_not_do_is_told_without_being_shown(url: str, words: str):
    with pytest.raises(BadUrl) as caught:
        ascii_url(url)
    assert words in str(caught.value) and "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "ascii_form"),
    [
        ("HTTP://Host.Example/Path?Q=1", "http://host.example/Path?Q=1"),
        ("http://localhost:3000/hook", "http://localhost:3000/hook"),
        ("https://host", "https://host"),
        ("https://host?x=a@b", "https://host?x=a@b"),
        ("https://host.:0443/", "https://host.:443/"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://[2001:DB8:0::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("http://under_score.example/", "http://under_score.example/"),
        # Odd numbers and their look-alikes are judged by where they lead.
        ("http://2130706433/", "http://2130706433/"),
        ("http://0x7f.1/", "http://0x7f.1/"),
        ("http://①②⑦.⓪.⓪.①/", "http://127.0.0.1/"),
        ("http://localhost./", "http://localhost./"),
        ("https://pаypal.example/", "https://xn--pypal-4ve.example/"),
    ],
)
def test_s6_s12_a_good_url_becomes_ascii(url: str, ascii_form: str):
    assert ascii_url(url) == ascii_form
    assert ascii_url(ascii_form) == ascii_form


@pytest.mark.parametrize(
    ("url", "ascii_form"),
    [
        ("https://User:pa%40ss@Host/", "https://User:pa%40ss@host/"),
        ("https://key:@[::1]:80/", "https://key:@[::1]:80/"),
        ("https://:pass@bücher.example/", "https://:pass@xn--bcher-kva.example/"),
    ],
)
def test_what_a_reference_leads_to_may_have_a_user_and_password(url: str, ascii_form: str):
    assert ascii_url(url, referred=True) == ascii_form


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://u:canary@canary@host/", "percent-encoded"),
        ("https://u:canarü@host/", "percent-encoded"),
        ("https://u:[canary]@host/", "percent-encoded"),
        ("https://u:canary@", "no host"),
        ("https://u:canary/@host/", "port"),
    ],
)
def test_c9_credentials_that_will_not_do_are_told_without_being_shown(url: str, words: str):
    with pytest.raises(BadUrl) as caught:
        ascii_url(url, referred=True)
    assert words in str(caught.value) and "canar" not in str(caught.value)


@given(st.text(max_size=30), st.booleans())
def test_any_text_is_judged(text: str, referred: bool):
    for url in (text, f"https://{text}", f"https://host{text}", f"http://[{text}]/", f"http://{text}@host/"):
        try:
            done = ascii_url(url, referred)
        except BadUrl:
            continue
        assert done.isascii() and done.isprintable() and " " not in done


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host:8443/a/b", "https://host:8443/a/b"),
        ("https://host/a?token=canary", "https://host/a?..."),
        ("https://host/a#canary", "https://host/a#..."),
        ("https://u:canary@host/a?canary", "https://...@host/a?..."),
        ("https://u:ca?nary@host/a", "https://...@host/a"),
        ("https://u:ca/nary@host/a", "https://...@host/a"),
        ("u:canary@host", "...@host"),
        ("https://u:canary", "https://u:..."),
        ("https://[::1]:80/", "https://[::1]:80/"),
        ("@env:HOOK", "@env:HOOK"),
        ("@file:/run/a?b", "@file:/run/a?b"),
    ],
)
def test_c9_what_is_secret_in_an_address_is_masked(url: str, shown: str):
    assert mask_url(url) == shown
