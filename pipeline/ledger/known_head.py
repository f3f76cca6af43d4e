"""The ledger's last head, noted in a file next to it: a chain alone cannot show that its end was cut off.

The note is written after each commit, so it may be older than the ledger, never newer. A ledger without a note (of an
earlier nextday) gets one with its next batch.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import LedgerError
from pipeline.ledger.backends import Connection, postgresql
from pipeline.storage.files import write_text
from pipeline.storage.ledger_database import LedgerDatabase, LedgerPlace

__all__ = [
    "RECOVER",
    "KnownHead",
    "find_loss",
    "has_tables",
    "is_cut",
    "ledger_exists",
    "note",
    "place",
    "read",
]

RECOVER: Final = (
    "restore a backup (nextday restore), or accept the loss and go on: nextday ledger begin-again"
)

_LOOK_SECONDS = 5.0
"""How long a look at a ledger waits for its writer; who opens it for its rows waits on."""


@dataclass(frozen=True)
class KnownHead:
    """The numbers and hashes of the last batches: of forecasts, of outcomes, of accepted losses."""

    forecasts: int
    forecast_head: str
    outcomes: int
    outcome_head: str
    beginnings: int = 0
    beginning_head: str = ""


def place(ledger: LedgerPlace) -> Path:
    """Return the path of a ledger's note."""
    if isinstance(ledger, LedgerDatabase):
        return ledger.head_note
    return ledger.with_name(f"{ledger.stem}.head.json")


def note(ledger: LedgerPlace, head: KnownHead) -> None:
    """Write down the head of a ledger that has just been committed.

    Raises:
        NextdayError: the note cannot be written; the ledger is whole.
    """
    facts = asdict(head)
    write_text(place(ledger), json.dumps(facts | {"sha256": _digest(facts)}, indent=1) + "\n")


def read(ledger: LedgerPlace) -> KnownHead | None:
    """Return the noted head, None without a note.

    Raises:
        LedgerError: the note is damaged.
    """
    path = place(ledger)
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sealed = facts.pop("sha256")
        if sealed != _digest(facts):
            raise ValueError("it was changed")
        return KnownHead(**facts)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(
            f"The note of the ledger's last head cannot be used: {error!s:.200}",
            where=str(path),
            fix="compare the ledger with the head of the last report (nextday ledger verify --head HASH), then take it "
            "as it is: nextday ledger begin-again",
        ) from None


def ledger_exists(ledger: LedgerPlace) -> bool:
    """Return whether a ledger was begun; one whose head was noted was.

    A file without tables is none yet: its writer was killed, or found the disk full, before it could make them.

    Raises:
        LedgerError: it is gone, or its note is damaged.
    """
    if (isinstance(ledger, LedgerDatabase) or ledger.exists()) and has_tables(ledger):
        return True
    known = read(ledger)
    if known is None:
        return False
    raise LedgerError(
        f"The ledger is gone: forecast batches up to {known.forecasts} and outcome batches up to {known.outcomes} "
        "were sealed in it",
        where=str(ledger),
        fix=RECOVER,
    )


def has_tables(ledger: LedgerPlace) -> bool:
    """Return whether there is anything in a ledger; also True of a file that is damaged or no database."""
    if isinstance(ledger, LedgerDatabase):
        with postgresql.opened(ledger) as database:
            return database.has_table("forecasts")
    try:
        with closing(
            sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True, timeout=_LOOK_SECONDS)
        ) as db:
            return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    except (sqlite3.Error, UnicodeDecodeError):  # who opens it for its rows names the damage
        return True


def find_loss(ledger: LedgerPlace, db: Connection) -> str:
    """Return what the ledger lacks of what was noted, in one sentence; empty if it lacks nothing.

    Raises:
        LedgerError: the note is damaged.
    """
    return next((sentence for sentence, _ in _compare(ledger, db)), "")


def is_cut(ledger: LedgerPlace, db: Connection) -> bool:
    """Return whether all that the ledger lacks is its end: what is left was sealed as it is.

    Raises:
        LedgerError: the note is damaged.
    """
    return all(is_missing for _, is_missing in _compare(ledger, db))


def _compare(ledger: LedgerPlace, db: Connection) -> Iterator[tuple[str, bool]]:
    """Yield each noted batch that the ledger lacks, in words, and whether it is missing rather than another."""
    known = read(ledger)
    if known is None:
        return
    for name, number, hash_ in (
        ("forecast", known.forecasts, known.forecast_head),
        ("outcome", known.outcomes, known.outcome_head),
        ("beginning", known.beginnings, known.beginning_head),
    ):
        if number == 0:
            continue
        table, last, found = f"{name}_batches", 0, None
        if db.has_table(table):
            last = db.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone()[0]
            found = db.execute(f"SELECT hash FROM {table} WHERE number = ?", [number]).fetchone()
        if found is None:
            yield (
                f"it ends with {name} batch {last}, but batch {number} was sealed: its end was cut off",
                True,
            )
        elif found[0] != hash_:
            yield (
                f"its {name} batch {number} is not the one that was sealed: it was replaced or rewritten",
                False,
            )


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
