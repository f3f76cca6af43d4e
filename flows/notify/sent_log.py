"""What was sent to whom: one small file per universe, so that every event is told once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pipeline.formatting import format_instant
from pipeline.storage.files import hold_lock, write_text

__all__ = ["Attempt", "SentLog"]

_MOST: Final = 500
"""Events that are remembered: years of evenings."""

_PATIENCE: Final = 10.0
"""Seconds to wait for another writer, which needs milliseconds."""


@dataclass(frozen=True)
class Attempt:
    """The last attempt to send something to an address.

    Attributes:
        at: When (UTC, ISO 8601).
        problem: What went wrong; empty if it was sent.
    """

    at: str
    problem: str = ""


class SentLog:
    """The log of one universe; a missing or damaged file reads as an empty one: it costs a message sent twice.

    Args:
        path: The file.
        lock: A file that is locked while it is written: two runs may report at the same time.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self._path, self._lock = path, lock
        self._read()

    def _read(self) -> None:
        self._events: dict[str, dict[str, Attempt]] = {}
        self._last: dict[str, Attempt] = {}
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self._events = {str(event): _read(attempts) for event, attempts in stored["events"].items()}
            self._last = _read(stored["last"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return

    @property
    def last(self) -> Mapping[str, Attempt]:
        """The last attempt by address, also of the heartbeat."""
        return MappingProxyType(self._last)

    def is_begun(self, event: str) -> bool:
        """Whether it was sent to anybody, or tried to."""
        return event in self._events

    def is_sent(self, event: str, address: str) -> bool:
        """Whether it was sent to an address."""
        attempt = self._events.get(event, {}).get(address)
        return attempt is not None and not attempt.problem

    def events(self, kind: str) -> list[str]:
        """Return the events of a kind, the first word of their names, in the order in which they were told."""
        return [event for event in self._events if event.split(" ")[0] == kind]

    def note(self, event: str, address: str, at: datetime, problem: str) -> None:
        """Write down an attempt, atomically; an event without a name changes the last attempt only.

        Raises:
            NextdayError: the file cannot be written.
        """
        attempt = Attempt(format_instant(at), problem)
        with hold_lock(self._lock, _PATIENCE, "the log of what was sent"):
            self._read()
            if event:
                self._events.setdefault(event, {})[address] = attempt
                self._events = dict(list(self._events.items())[-_MOST:])
            self._last[address] = attempt
            content = {
                "events": {name: _write(attempts) for name, attempts in self._events.items()},
                "last": _write(self._last),
            }
            write_text(self._path, json.dumps(content, indent=1) + "\n")


def _read(attempts: Mapping[str, Any]) -> dict[str, Attempt]:
    return {
        str(name): Attempt(str(entry["at"]), str(entry.get("problem", "")))
        for name, entry in attempts.items()
    }


def _write(attempts: Mapping[str, Attempt]) -> dict[str, dict[str, str]]:
    return {
        name: {"at": each.at} | ({"problem": each.problem} if each.problem else {})
        for name, each in attempts.items()
    }
