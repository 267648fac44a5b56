"""The home folder: where it is, and how `mailvane init` makes one."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailvane.configuration.directive_values import queue_in
from mailvane.configuration.directives import commented_file
from mailvane.configuration.secrets import is_reference
from mailvane.configuration.settings import LEGACY_FILE, SETTINGS_FILE, load_settings
from mailvane.configuration.urls import BadUrl, ascii_url
from mailvane.errors import HomeMissing, MailvaneError

SYSTEM_HOME = Path("/var/lib/mailvane")
LOCAL_HOME = Path("mailvane-home")

CONTROL = "control"
_NEW = f".{SETTINGS_FILE}.new"

_ALL_TO = """\
{
  "configuration_mode": "json",

  "use_json_for_http_post": true,

  "event_destinations": [
    {
      "matches": {
        "all": true
      },
      "destination": {
        %s
      }
    }
  ]
}
"""
LEAVE_ALL = _ALL_TO % '"type": "leave_in_queue"'
"""The legacy configuration that an installation starts with."""


@dataclass(frozen=True)
class Initialized:
    """What `init` did: `made` is false if the home was there, and then nothing was changed."""

    home: Path
    made: bool


def find_home(
    argument: str | None, environment: Mapping[str, str] = os.environ, system: Path = SYSTEM_HOME
) -> Path:  # fmt: skip
    """Where home is: `--home`, `MAILVANE_HOME`, /var/lib/mailvane if it exists, ./mailvane-home. It need not exist."""
    named = argument or environment.get("MAILVANE_HOME") or ""
    if named:
        return Path(named).absolute()
    return system if system.is_dir() else LOCAL_HOME.absolute()


def existing_home(
    argument: str | None, environment: Mapping[str, str] = os.environ, system: Path = SYSTEM_HOME
) -> Path:
    """As `find_home`. Raises HomeMissing if no home is there."""
    home = find_home(argument, environment, system)
    if (home / SETTINGS_FILE).exists():
        return home
    what = f"has no {SETTINGS_FILE} in it" if home.is_dir() else "is not there"
    raise HomeMissing(
        f"the home folder {home} {what}; make it with: mailvane init --home {home}, or name another by --home or"
        " MAILVANE_HOME"
    )


def init(home: Path, queue_url: str = "", post_to: str = "") -> Initialized:
    """Makes a home; a folder that is a home already stays as it is, as does what stands in `control`.

    With `post_to` its event_processor.json posts every event to that URL. Raises HomeMissing if a folder is in the
    way that is no home, MailvaneError if it cannot be made, or if what is there already does not post there;
    SettingsBroken if it is not known where that stands.
    """
    home = home.absolute()
    legacy = _legacy(post_to)
    if queue_url:
        queue_in(queue_url, home, lambda why: MailvaneError(f"--queue: {why}"))
    try:
        if (home / SETTINGS_FILE).exists():
            if post_to:
                _must_say(load_settings(home).legacy_file, legacy)
            return Initialized(home, made=False)
        if post_to and (home / CONTROL / LEGACY_FILE).exists():
            _must_say(home / CONTROL / LEGACY_FILE, legacy)
        if home.exists():
            # What an init that was cut short left, and control files that were there before, are no hindrance.
            strangers = sorted(set(os.listdir(home)) - {CONTROL, _NEW})
            if strangers:
                raise HomeMissing(
                    f"{home} is no home of mailvane, and {strangers[0]} is in it; name an empty folder or one that is"
                    " not there yet. Nothing was changed"
                )
        (home / CONTROL).mkdir(mode=0o755, parents=True, exist_ok=True)
        if not (home / CONTROL / LEGACY_FILE).exists():
            _write(home / CONTROL / LEGACY_FILE, legacy, 0o644)
        # Last, and at once: this file is what makes a folder a home.
        _write(home / _NEW, commented_file(queue_url), 0o640)
        os.replace(home / _NEW, home / SETTINGS_FILE)
    except OSError as error:
        raise MailvaneError(f"{home} cannot be made: {error.filename or home}: {error.strerror}") from None
    return Initialized(home, made=True)


def _legacy(post_to: str) -> str:
    if not post_to:
        return LEAVE_ALL
    if not is_reference(post_to):
        try:
            ascii_url(post_to)
        except BadUrl as error:
            raise MailvaneError(f"--post-to: {error}") from None
    return _ALL_TO % f'"type": "http_post",\n        "url": {json.dumps(post_to)}'


def _must_say(path: Path, legacy: str) -> None:
    """An edit of somebody's is never undone."""
    there = path.exists()
    if not there or path.read_bytes() != legacy.encode():
        found = "is there and says something else" if there else "is not there, in a home that is"
        raise MailvaneError(f"{path} {found}; write the URL into it. Nothing was changed")


def _write(path: Path, text: str, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
