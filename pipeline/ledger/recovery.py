"""Go on after a loss of the ledger, once the user has said in so many words what is lost.

Rows whose seal is whole stay. A ledger that cannot be trusted is set aside, and a new one begins. Either way the words
are sealed in the ledger, and every verification and every report repeats them.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import InputError, LedgerDamagedError, LedgerError
from pipeline.ledger import hash_chain, known_head
from pipeline.ledger.backends import postgresql
from pipeline.ledger.verification import find_problems
from pipeline.storage.ledger_database import LedgerDatabase, LedgerPlace

__all__ = ["begin_again", "describe_loss"]

_FILES = ("", "-wal", "-shm")


def describe_loss(ledger: LedgerPlace) -> str:
    """Return what a ledger has lost, in the words that `begin_again` asks for; empty if it is whole.

    Raises:
        LedgerError: it cannot be opened for another reason than damage: it is locked, or of a newer layout.
    """
    return _examine(ledger)[0]


def begin_again(ledger: LedgerPlace, words: str, now: datetime) -> LedgerPlace | None:
    """Accept a loss, seal that, and note the head that the ledger has now.

    Args:
        ledger: The ledger's file or database.
        words: What is lost, as `describe_loss` says it.
        now: The time.

    Returns:
        Where the ledger was moved that could not be trusted; None if it stays.

    Raises:
        InputError: nothing is lost, or the words are others.
        LedgerError: see `describe_loss`; or the ledger cannot be written.
    """
    loss, is_kept = _examine(ledger)
    if words != loss:
        raise InputError(
            f"What is lost is to be accepted in so many words: {loss}"
            if loss
            else "The ledger is whole: nothing is lost",
            where=str(ledger),
            fix=f'nextday ledger begin-again --accept "{loss}"' if loss else "",
        )
    known, at = _read_note(ledger), now.astimezone(UTC)
    aside = None if is_kept else _set_aside(ledger, at)
    hash_chain.create(ledger)
    with hash_chain.opened(ledger) as db:
        hash_chain.append_beginning(
            db,
            {
                "universe": "",
                "accepted_at": at.isoformat(timespec="microseconds"),
                "words": words,
                "forecasts": known and known.forecasts,
                "forecast_head": known and known.forecast_head,
                "outcomes": known and known.outcomes,
                "outcome_head": known and known.outcome_head,
            },
        )
        head = hash_chain.find_head(db)
        db.execute("COMMIT")
    known_head.note(ledger, head)
    return aside


def _examine(ledger: LedgerPlace) -> tuple[str, bool]:
    """Return what is lost, empty if nothing is, and whether the rows that are left may stay."""
    known = _read_note(ledger)
    has_note = known_head.place(ledger).exists()
    is_there = isinstance(ledger, LedgerDatabase) or ledger.exists()
    if not is_there or not known_head.has_tables(ledger):
        if known:
            return f"lost: {_batches(known.forecasts, known.outcomes)}", False
        return ("lost: all that was sealed" if has_note else ""), False
    try:
        with hash_chain.opened(ledger) as db:
            problems, now = find_problems(db), hash_chain.find_head(db)
            if known and not known_head.is_cut(ledger, db):
                problems.append(known_head.find_loss(ledger, db))
    except LedgerDamagedError as error:
        problems, now = [error.what], None
    if problems or now is None:
        return f"the ledger is damaged and set aside{_of(known)}", False
    if known is None:
        return ("what was sealed last is not known" if has_note else ""), True
    counts = [
        (known.forecasts, now.forecasts),
        (known.outcomes, now.outcomes),
        (known.beginnings, now.beginnings),
    ]
    gone = [max(noted - there, 0) for noted, there in counts]
    return (f"lost from the end: {_batches(*gone)}" if any(gone) else ""), True


def _read_note(ledger: LedgerPlace) -> known_head.KnownHead | None:
    try:
        return known_head.read(ledger)
    except LedgerError:
        return None


def _batches(*numbers: int) -> str:
    """Return numbers of batches of forecasts, outcomes and accepted losses as text."""
    parts = [
        f"{number:,} {name} {'batch' if number == 1 else 'batches'}"
        for name, number in zip(("forecast", "outcome", "beginning"), numbers, strict=False)
        if number
    ]
    return " and ".join(parts) or "no batch"


def _of(known: known_head.KnownHead | None) -> str:
    return (
        f", with {_batches(known.forecasts, known.outcomes)}"
        if known and (known.forecasts or known.outcomes)
        else ""
    )


def _set_aside(ledger: LedgerPlace, at: datetime) -> LedgerPlace | None:
    if isinstance(ledger, LedgerDatabase):
        return _rename_schema(ledger, at)
    if not ledger.exists():
        return None
    aside = ledger.with_name(f"{ledger.name}.broken-{at:%Y-%m-%dT%H%M%SZ}")
    for end in _FILES:
        if (there := Path(f"{ledger}{end}")).exists():
            there.replace(f"{aside}{end}")
    return aside


def _rename_schema(ledger: LedgerDatabase, at: datetime) -> LedgerDatabase | None:
    if not known_head.has_tables(ledger):
        return None
    aside = f"{ledger.schema}_broken_{at:%Y%m%dt%H%M%Sz}"
    with postgresql.opened(ledger) as db:
        db.set_aside(aside)
    return replace(ledger, schema=aside)
