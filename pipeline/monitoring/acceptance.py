"""Who said that a universe goes on after its live record had decayed: written down, never deleted."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.errors import NextdayError
from pipeline.formatting import format_instant
from pipeline.outputs import Output, name_key
from pipeline.storage.files import write_text

__all__ = ["Acceptance", "accept", "accepted_at", "read_acceptances"]

_FIX: Final = "restore the file from a backup; without one, move it away: then earlier alarms stand again"


@dataclass(frozen=True)
class Acceptance:
    """One decision to go on.

    Attributes:
        at: When (UTC, ISO 8601).
        by: Who.
        why: Why.
        outputs: The names of the outputs (`outputs.name_key`) whose test begins anew.
        found: What the alarm said of them then.
    """

    at: str
    by: str
    why: str
    outputs: tuple[str, ...]
    found: tuple[str, ...]


def read_acceptances(path: Path) -> list[Acceptance]:
    """Return the decisions, the oldest first; none where there is no file.

    Raises:
        NextdayError: the file cannot be read.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return [
            Acceptance(each["at"], each["by"], each["why"], tuple(each["outputs"]), tuple(each["found"]))
            for each in stored
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NextdayError(
            f"The accepted alarms cannot be read: {error!r:.200}", where=str(path), fix=_FIX
        ) from None


def accepted_at(acceptances: list[Acceptance], output: Output) -> pd.Timestamp | None:
    """Return when the alarm of an output was last accepted; None if it never was."""
    moments = [pd.Timestamp(each.at) for each in acceptances if name_key(output) in each.outputs]
    return max(moments, default=None)


def accept(path: Path, *, at: datetime, by: str, why: str, found: dict[Output, str]) -> Acceptance:
    """Write down that a person goes on, atomically.

    Args:
        path: The file.
        at: The clock.
        by: Who.
        why: Why.
        found: What the alarm says of each output whose test begins anew.

    Raises:
        NextdayError: the file cannot be read or written.
    """
    new = Acceptance(format_instant(at), by, why, tuple(map(name_key, found)), tuple(found.values()))
    every = [*read_acceptances(path), new]
    write_text(path, json.dumps([asdict(each) for each in every], indent=1) + "\n")
    return new
