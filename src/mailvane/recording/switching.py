"""Switching types of events on and off for people who prefer commands: writes the control files that they would."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import msgspec

from mailvane.errors import MailvaneError
from mailvane.events.catalogue import TYPES
from mailvane.queue.studio import COLUMNS
from mailvane.recording.control_files import ATTEMPT, RULES_LIMIT, SWITCHED, Strange, rules_in
from mailvane.recording.gate import AttemptRules
from mailvane.recording.regular import Unreadable, read_regular


def enable(directory: Path, event_type: str) -> Path:
    """Switches a type on as the guide does; returns the control file. Raises MailvaneError, with what to do."""
    return _write(directory, event_type, True)


def disable(directory: Path, event_type: str) -> Path:
    """Switches a type off; returns the control file. Raises MailvaneError, with what to do."""
    return _write(directory, event_type, False)


def meant(names: Sequence[str]) -> Sequence[str]:
    """The types that are named: `all` stands for each that has a control file."""
    return list(SWITCHED) if "all" in names else names


def switched_type(event_type: str) -> str:
    """The type's name as the catalogue has it. Raises MailvaneError, with what to do, if it has no control file."""
    name = event_type.lower()
    if name not in SWITCHED:
        raise MailvaneError(_no_switch(event_type))
    return name


def of_studio(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The types that are named of those that Studio has a switch for, `all` for each; and what is wrong with others."""
    if "all" in names:
        return list(COLUMNS), []
    known = [name.lower() for name in names if name.lower() in COLUMNS]
    return known, [_no_column(name) for name in names if name.lower() not in COLUMNS]


def _no_column(name: str) -> str:
    if name.lower() in SWITCHED:
        return f'"{name}" is Engine\'s alone: without --studio'
    near = get_close_matches(name.lower(), COLUMNS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(COLUMNS)}"
    return f'"{name}" is no type that Studio has a switch for; {hint}'


def _write(directory: Path, event_type: str, on: bool) -> Path:
    name = switched_type(event_type)
    switch = SWITCHED[name]
    path = directory / switch
    text = _rules_text(path, on) if name == ATTEMPT else f"{int(on)}\n"
    new = directory / f".{switch}.{os.getpid()}"
    try:
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise MailvaneError(
            f"{path} cannot be written: {error.strerror}; {name} is as it was. "
            "The control directory must be there, and writable by this user."
        ) from None
    return path


def _rules_text(path: Path, on: bool) -> str:
    """What else the file says stays."""
    try:
        rules = rules_in(read_regular(path, RULES_LIMIT).data)
    except (Unreadable, Strange):
        rules = AttemptRules()
    return msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(rules, enabled=on))).decode() + "\n"


def _no_switch(event_type: str) -> str:
    name = event_type.lower()
    known = TYPES.get(name)
    if known is not None and known.column:
        return f'"{name}" is Studio\'s: mailvane enable --studio {name}, mailvane disable --studio {name}'
    if known is not None:
        return f'"{name}" is only a name to filter for: nothing makes such events'
    names: Sequence[str] = [*SWITCHED, *(n for n in TYPES if TYPES[n].column)]
    near = get_close_matches(name, names, n=1) or [n for n in names if n.endswith(f"_{name}")]
    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(SWITCHED)}"
    return f'"{event_type}" is no type of event; {hint}'
