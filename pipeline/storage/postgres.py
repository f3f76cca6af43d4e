"""A connection to the PostgreSQL database of a workspace's shared state, and what its failures mean to a user."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import InputError, NextdayError
from pipeline.storage.ledger_database import LedgerDatabase

if TYPE_CHECKING:
    import psycopg

__all__ = ["WAIT_SECONDS", "connected", "lock_schema"]

WAIT_SECONDS: Final = 30
_CONNECTING: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": WAIT_SECONDS * 1000,  # a host that is cut off is given up
}


@contextmanager
def connected(
    place: LedgerDatabase,
    what: str,
    *,
    refused: type[NextdayError],
    unreachable: type[NextdayError],
    outcome: str,
    check: str,
    row_factory: Any = None,
) -> Iterator["psycopg.Connection[Any]"]:
    """Connect for one transaction; what is not committed is rolled back.

    Args:
        place: The database, and the schema in which names are looked up.
        what: What is kept there, for messages.
        refused: The error where a statement is refused, or another host holds the lock for too long.
        unreachable: The error where the database cannot be reached, or goes away.
        outcome: What became of the data then.
        check: What a user can do about a refusal.
        row_factory: psycopg's; default: tuples.

    Raises:
        InputError: the driver is not installed.
    """
    try:
        import psycopg
    except ImportError:
        raise InputError(
            f"The {what} is on PostgreSQL, and its driver is not installed",
            where=str(place),
            fix='install the extra: pip install "nextday[postgres]"',
        ) from None
    options = f"-c search_path={place.schema} -c lock_timeout={WAIT_SECONDS}s -c extra_float_digits=1"
    settings: dict[str, Any] = {**_CONNECTING, "options": options}
    try:
        with psycopg.connect(
            place.dsn, autocommit=True, row_factory=row_factory or psycopg.rows.tuple_row, **settings
        ) as db:
            yield db
    except psycopg.errors.LockNotAvailable as error:
        raise refused(
            f"The {what} is locked by another run",
            where=str(place),
            fix="wait until it has finished, then run this again",
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise unreachable(
            f"The {what}'s database cannot be reached: {_first_line(error)}",
            where=str(place),
            fix="check that it is running and that its user may log in (password: PGPASSWORD or ~/.pgpass), then run "
            f"this again: {outcome}",
        ) from None
    except psycopg.Error as error:
        raise refused(
            f"The {what} refused the operation: {_first_line(error)}", where=str(place), fix=check
        ) from error


def lock_schema(db: "psycopg.Connection[Any]", schema: str) -> None:
    """Hold the advisory lock of a schema until the transaction ends: one writer at a time, on however many hosts."""
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"nextday {schema}"])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines and "failed:" in lines[-1] else (lines or [type(error).__name__])[0]
