"""References are followed late, and tell where they lead to nothing."""

import os
from pathlib import Path

import pytest

from mailvane.configuration.secrets import SecretMissing, resolve_secret


def test_a_file_gives_its_first_line_and_is_read_anew_each_time(tmp_path: Path):
    file = tmp_path / "s"
    file.write_bytes(b"one\r\nnote\n")
    assert resolve_secret(f"@file:{file}") == "one"
    file.write_text("two")
    assert resolve_secret(f"@file:{file}") == "two"


def test_a_variable_gives_its_value(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAILVANE_TEST_SECRET", "s")
    assert resolve_secret("@env:MAILVANE_TEST_SECRET") == "s"
    assert resolve_secret("as it is") == "as it is"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b"\nx", "is empty"),
        (b"\xff", "no UTF-8"),
        (b"x" * 65_537, "at most"),
    ],
)
def test_what_leads_to_nothing_is_told_with_the_reference(tmp_path: Path, content: bytes | None, words: str):
    file = tmp_path / "s"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretMissing, match=words) as caught:
        resolve_secret(f"@file:{file}")
    assert f"@file:{file}" in str(caught.value)


def test_a_fifo_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "s")
    with pytest.raises(SecretMissing, match="a FIFO"):
        resolve_secret(f"@file:{tmp_path}/s")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAILVANE_TEST_SECRET", "")
    for name in ("MAILVANE_TEST_SECRET", "MAILVANE_TEST_NO_SUCH", ""):
        with pytest.raises(SecretMissing, match="the variable is not set here"):
            resolve_secret(f"@env:{name}")
