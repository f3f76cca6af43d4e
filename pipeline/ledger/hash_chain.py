"""The ledger's file: opened safely, appended to in sealed batches.

Two hash chains, one of forecasts and one of outcomes, and a third one of accepted losses, if there are any. The hash
of a batch covers its own columns, its rows and the hash of the batch before it, so a verification finds every later
change, removal or insertion and names its batch. A chain alone cannot show that its end was cut off or that all of it
was rewritten: `known_head` compares it with the last head, which is noted in another file.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from pipeline.errors import LedgerDamagedError, LedgerError
from pipeline.ledger import known_head
from pipeline.ledger.backends import (
    BEGINNINGS,
    TABLES,
    Cells,
    Connection,
    postgresql,
    read_sql,
    read_statements,
)
from pipeline.ledger.backends.sqlite import SqliteConnection
from pipeline.outputs import DIRECTION
from pipeline.schema import FORECASTS, OUTCOMES
from pipeline.storage.ledger_database import LedgerDatabase, LedgerPlace

__all__ = [
    "BEGINNING",
    "BEGINNINGS",
    "FORECAST",
    "GENESIS",
    "OUTCOME",
    "TABLES",
    "Chain",
    "Head",
    "append",
    "append_beginning",
    "compute_hash",
    "create",
    "find_head",
    "format_content",
    "head",
    "list_beginnings",
    "list_chains",
    "opened",
    "read_rows",
    "read_sql",
]

_BUSY_SECONDS = 30.0
_LAYOUT: Final = 3
GENESIS: Final = "0" * 64

_SQLITE_ERRORS: Final = {
    "SQLITE_BUSY": ("The ledger is locked by another run", "wait until it has finished, then run this again"),
    "SQLITE_LOCKED": (
        "The ledger is locked by another run",
        "wait until it has finished, then run this again",
    ),
    "SQLITE_NOTADB": ("This file is not a ledger", "move it away, or name another workspace with --home DIR"),
    "SQLITE_CORRUPT": ("The ledger is damaged", known_head.RECOVER),
    "SQLITE_READONLY": (
        "The ledger cannot be written to",
        "check the permissions of the file and of its folder",
    ),
    "SQLITE_CANTOPEN": ("The ledger cannot be opened", "check the path and the permissions of its folder"),
    "SQLITE_FULL": ("The disk is full: nothing was written", "free some space, then run this again"),
    "SQLITE_IOERR": ("The disk cannot read or write the ledger", "check its free space and health"),
}


@dataclass(frozen=True)
class Chain:
    """One chain: rows in the table `<name>s`, batches in `<name>_batches`.

    Attributes:
        name: What one row holds.
        columns: The columns of a row.
        added: Those that each layout after the first one added, with their values in rows from before. A batch in
            which every row has these values in the newest ones is hashed without them: ledgers of earlier layouts keep
            their hashes.
        order: The columns that the rows of a batch are sorted by.
        clock: The column whose latest time is the time of the batch.
        day: The column that dates a batch in messages.
    """

    name: str
    columns: tuple[str, ...]
    added: tuple[Mapping[str, str | None], ...]
    order: str
    clock: str
    day: str = "as_of"

    def columns_to_hash(self, rows: list[Cells]) -> tuple[str, ...]:
        """Return the columns that the hash of a batch of these rows covers."""
        names = self.columns
        for added in reversed(self.added):
            places = [(self.columns.index(name), value) for name, value in added.items()]
            if any(row[place] != value for place, value in places for row in rows):
                break
            names = tuple(name for name in names if name not in added)
        return names

    def columns_since(self, layout: int) -> dict[str, str | None]:
        """Return what later layouts than this one added, with the values in rows from before."""
        return {name: value for added in self.added[layout - 1 :] for name, value in added.items()}


FORECAST: Final = Chain(
    name="forecast",
    columns=("universe", *FORECASTS.columns, "opens_at", "observed_at"),
    added=({"target": DIRECTION}, {}),
    order="symbol, as_of, target_session, horizon, target, model_version",
    clock="issued_at",
)
OUTCOME: Final = Chain(
    name="outcome",
    columns=("universe", *OUTCOMES.columns, "correction"),
    added=(
        {"target": DIRECTION, "median_return": None, "median_members": None, "median_basis": None},
        {"void_reason": None},
    ),
    order="symbol, as_of, target_session, horizon, target",
    clock="settled_at",
)

BEGINNING: Final = Chain(
    name="beginning",
    columns=(
        "universe",
        "accepted_at",
        "words",
        "forecasts",
        "forecast_head",
        "outcomes",
        "outcome_head",
    ),
    added=(),
    order="accepted_at",
    clock="accepted_at",
    day="accepted_at",
)


@dataclass(frozen=True)
class Head:
    """The last hash of each chain (64 zeros where it has no batch)."""

    forecasts: str
    outcomes: str
    beginnings: str = GENESIS

    @property
    def hash(self) -> str:
        """One hash of the whole ledger: sha256 of its heads; that of the accepted losses only where there are any."""
        losses = "" if self.beginnings == GENESIS else self.beginnings
        return hashlib.sha256((self.forecasts + self.outcomes + losses).encode()).hexdigest()


def create(path: LedgerPlace) -> None:
    """Create the ledger, and a file's folders, unless it exists.

    Raises:
        LedgerError: it cannot be created.
    """
    if isinstance(path, LedgerDatabase):
        with postgresql.opened(path) as database:
            database.create()
        return
    with _creation_lock(path), _connected(path, "rwc") as db:
        if _layout(db) == (0, 0):
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(read_sql(TABLES))


@contextmanager
def opened(path: LedgerPlace) -> Iterator[Connection]:
    """Open the ledger for one transaction; what the caller does not commit is rolled back.

    A ledger of an earlier layout is brought to this one first: its rows and hashes stay as they are.

    Raises:
        LedgerError: SQLite or PostgreSQL failed; the message names the reason, the place and a fix.
    """
    if isinstance(path, LedgerDatabase):
        with postgresql.opened(path) as database:
            _check_version(database.read_layout(), path)
            yield database
        return
    with _connected(path, "rw") as db:
        version, _ = _layout(db)
        _check_version(version, path)
        if version < 1:
            raise _describe("SQLITE_NOTADB", path)
        if version < _LAYOUT:
            _bring_to_this_layout(db)
        yield db


def _check_version(version: int, place: LedgerPlace) -> None:
    if version > _LAYOUT:
        raise LedgerError(
            f"The ledger has layout {version}, this version of nextday reads layouts up to {_LAYOUT}",
            where=str(place),
            fix="install the nextday that wrote it, or a newer one",
        )


def append(db: Connection, chain: Chain, rows: list[dict[str, Any]]) -> int | None:
    """Insert rows of one universe and the batch that seals them; return its number, None without rows."""
    if not rows:
        return None
    last, prev_hash = _end(db, chain)
    number = last + 1
    db.insert(f"{chain.name}s", ("batch", *chain.columns), [row | {"batch": number} for row in rows])
    header = [number, rows[0]["universe"], max(row[chain.clock] for row in rows), len(rows), prev_hash]
    # Hashed as read back, because a verification sees what is stored (0.0 for -0.0).
    seal = compute_hash(chain, header, read_rows(db, chain, number))
    db.execute(f"INSERT INTO {chain.name}_batches VALUES (?, ?, ?, ?, ?, ?)", [*header, seal])
    return number


def append_beginning(db: Connection, row: dict[str, Any]) -> None:
    """Seal an accepted loss; its table is made with the first one. Begins a transaction of its own."""
    db.make_beginnings()
    db.begin_writing()
    append(db, BEGINNING, [row])


def head(db: Connection) -> Head:
    """Return the heads of the chains."""
    return Head(*(_end(db, chain)[1] for chain in list_chains(db)))


def find_head(db: Connection) -> known_head.KnownHead:
    """Return the numbers and hashes of the last batches, to be noted outside of the ledger."""
    forecasts, outcomes, *beginnings = (_end(db, chain) for chain in list_chains(db))
    return known_head.KnownHead(*forecasts, *outcomes, *(beginnings[0] if beginnings else (0, "")))


def list_beginnings(db: Connection) -> list[str]:
    """Return the accepted losses, oldest first, one sentence each."""
    if BEGINNING not in list_chains(db):
        return []
    rows = db.execute("SELECT accepted_at, words FROM beginnings ORDER BY batch")
    return [f"On {row['accepted_at'][:10]} the ledger went on after a loss: {row['words']}." for row in rows]


@contextmanager
def _creation_lock(path: Path) -> Iterator[None]:
    """Keep other processes out: SQLite does not wait when two of them switch a new file to WAL."""
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=_BUSY_SECONDS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise LedgerError(
            f"The ledger cannot be made: {error.strerror or error}",
            where=str(path),
            fix="check the path and the permissions of its folder",
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _connected(path: Path, mode: str) -> Iterator[SqliteConnection]:
    where = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        with closing(
            sqlite3.connect(
                where, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, factory=SqliteConnection
            )
        ) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            yield db
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _as_ledger_error(error, path) from error


def _as_ledger_error(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerError:
    # SQLite quotes bytes that it cannot read, and Python then fails to decode the message.
    code = "SQLITE_CORRUPT" if isinstance(error, ValueError) else getattr(error, "sqlite_errorname", "")
    for kind in _SQLITE_ERRORS:
        if code.startswith(kind):
            return _describe(kind, path)
    return LedgerError(
        f"The ledger refused the operation: {error}", where=str(path), fix="run: nextday ledger verify"
    )


def _describe(kind: str, path: Path) -> LedgerError:
    what, fix = _SQLITE_ERRORS[kind]
    if kind == "SQLITE_NOTADB" and known_head.place(path).exists():
        fix = known_head.RECOVER
    error = LedgerDamagedError if kind in {"SQLITE_NOTADB", "SQLITE_CORRUPT"} else LedgerError
    return error(what, where=str(path), fix=fix)


def _layout(db: SqliteConnection) -> tuple[int, int]:
    """Return the layout version and the number of tables, read in one query."""
    query = "SELECT (SELECT user_version FROM pragma_user_version), count(*) FROM sqlite_master"
    version, tables = db.execute(query).fetchone()
    return version, tables


def list_chains(db: Connection) -> list[Chain]:
    """Return the chains of this ledger: that of accepted losses only where there is one."""
    return [FORECAST, OUTCOME, *([BEGINNING] if db.has_table("beginning_batches") else [])]


def _bring_to_this_layout(db: SqliteConnection) -> None:
    """Give the rows of a ledger of an earlier layout the columns that were added since, in one transaction.

    What is not nextday's stays as it is, for a verification to name it.
    """
    db.execute(
        "PRAGMA legacy_alter_table = ON"
    )  # else a view of the user's would follow the table to its end
    db.execute("BEGIN IMMEDIATE")
    version = _layout(db)[0]
    if version < _LAYOUT:  # another run may have done it meanwhile
        chains = [chain for chain in (FORECAST, OUTCOME) if chain.columns_since(version)]
        statements = list(read_statements())
        own = {match[1] for text in statements if (match := re.search(r"IF NOT EXISTS (\w+)", text))}
        query = (
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('view', 'trigger', 'index') "
            "AND tbl_name IN ('forecasts', 'outcomes', 'record')"
        )
        parts = [tuple(part) for part in db.execute(query)]
        for kind, name, _ in parts:
            db.execute(f'DROP {kind} "{name}"')
        for chain in chains:
            db.execute(f"ALTER TABLE {chain.name}s RENAME TO {chain.name}s_before")
        guards = [statement for statement in statements if statement.startswith("CREATE TRIGGER")]
        for statement in statements:
            if statement not in guards:
                db.execute(statement)
        for chain in chains:
            added = chain.columns_since(version)
            kept = ", ".join(["batch", *(name for name in chain.columns if name not in added)])
            filled = ", ".join("NULL" if value is None else f"'{value}'" for value in added.values())
            db.execute(
                f"INSERT INTO {chain.name}s ({kept}, {', '.join(added)}) "
                f"SELECT {kept}, {filled} FROM {chain.name}s_before"
            )
            db.execute(f"DROP TABLE {chain.name}s_before")
        for guard in guards:  # they let no row into a sealed batch
            db.execute(guard)
        for _, name, text in parts:
            if name not in own:
                db.execute(text)
    db.execute("COMMIT")


def _end(db: Connection, chain: Chain) -> tuple[int, str]:
    last = db.execute(
        f"SELECT number, hash FROM {chain.name}_batches ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return (0, GENESIS) if last is None else (last["number"], last["hash"])


def read_rows(db: Connection, chain: Chain, number: int) -> list[Cells]:
    """Return the sealed cells of a batch's rows, `chain.columns`, in the order of the seal."""
    query = f"SELECT {', '.join(chain.columns)} FROM {chain.name}s WHERE batch = ? ORDER BY {chain.order}"
    return [tuple(row) for row in db.execute(query, [number])]


def compute_hash(chain: Chain, header: list[Any], rows: list[Cells]) -> str:
    """Return the seal of a batch: `header` are its own columns but the hash."""
    return hashlib.sha256(format_content(chain, header, rows).encode()).hexdigest()


def format_content(chain: Chain, header: list[Any], rows: list[Cells]) -> str:
    """Return the text whose sha256 is the seal of a batch."""
    columns = chain.columns_to_hash(rows)
    chosen = itemgetter(*map(chain.columns.index, columns))
    content = {
        "chain": chain.name,
        "batch": header,
        "columns": columns,
        "rows": [chosen(row) for row in rows],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
