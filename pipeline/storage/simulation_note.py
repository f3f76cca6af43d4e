"""The note that makes a workspace that of a simulation: what it simulates, and how far it has come."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from pipeline.errors import NextdayError
from pipeline.storage.files import write_text

__all__ = ["SimulationNote", "read_note", "write_note"]


@dataclass(frozen=True)
class SimulationNote:
    """What a workspace simulates.

    Attributes:
        universe: The universe.
        settings: The digest of the settings that it began with.
        begins: The session of its first evening (YYYY-MM-DD).
        prices: The workspace whose stored prices its evenings read; empty: the configured source itself.
        done: The instant of the last run that has ended, UTC in ISO 8601; empty before the first.
    """

    universe: str
    settings: str
    begins: str
    prices: str = ""
    done: str = ""

    @property
    def done_at(self) -> datetime | None:
        """The instant of the last run that has ended; None before the first."""
        return datetime.fromisoformat(self.done) if self.done else None


def read_note(path: Path) -> SimulationNote | None:
    """Return the note; None where there is none, and so no simulation.

    Raises:
        NextdayError: it cannot be read: what may be a simulation is never taken for a workspace of real evenings.
    """
    if not path.parent.is_dir():
        return None  # it will be made, or cannot be, which is told where it is opened
    try:
        note = SimulationNote(**json.loads(path.read_text(encoding="utf-8")))
        _ = note.done_at
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise NextdayError(
            f"The note of a simulation cannot be read: {str(error) or type(error).__name__:.200}",
            where=str(path),
            fix="begin the simulation again in another folder",
        ) from None
    return note


def write_note(path: Path, note: SimulationNote) -> None:
    """Write the note in one piece.

    Raises:
        NextdayError: it cannot be written.
    """
    write_text(path, json.dumps(asdict(note), indent=1) + "\n")
