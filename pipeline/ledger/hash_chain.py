"""The ledger's file: opened safely, appended to in sealed batches, verified.

Two hash chains, one of forecasts and one of outcomes. The hash of a batch covers its own columns, its rows and the
hash of the batch before it, so `verify` finds every later change, removal or insertion and names its batch. A chain
alone cannot show that its end was cut off or that all of it was rewritten: compare it with a head noted elsewhere.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from pipeline.errors import LedgerError
from pipeline.outputs import DIRECTION
from pipeline.schema import FORECASTS, OUTCOMES

__all__ = [
    "FORECAST",
    "OUTCOME",
    "Chain",
    "Head",
    "Verification",
    "append",
    "create",
    "head",
    "opened",
    "read_statements",
    "verify",
]

_BUSY_SECONDS = 30.0
_LAYOUT: Final = 2
_GENESIS: Final = "0" * 64

_SQLITE_ERRORS: Final = {
    "SQLITE_BUSY": ("The ledger is locked by another run", "wait until it has finished, then run this again"),
    "SQLITE_LOCKED": (
        "The ledger is locked by another run",
        "wait until it has finished, then run this again",
    ),
    "SQLITE_NOTADB": ("This file is not a ledger", "move it away, or name another workspace with --home DIR"),
    "SQLITE_CORRUPT": (
        "The ledger is damaged",
        "restore an earlier copy, then run: nextday ledger verify",
    ),
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
        added: Those that the first layout did not have, with their values for a forecast of a direction. A batch in
            which every row has these values is hashed without them: ledgers of that layout keep their hashes.
        order: The columns that the rows of a batch are sorted by.
        clock: The column whose latest time is the time of the batch.
    """

    name: str
    columns: tuple[str, ...]
    added: Mapping[str, str | None]
    order: str
    clock: str

    def columns_to_hash(self, rows: list[sqlite3.Row]) -> tuple[str, ...]:
        """Return the columns that the hash of a batch of these rows covers."""
        if any(row[name] != value for row in rows for name, value in self.added.items()):
            return self.columns
        return tuple(name for name in self.columns if name not in self.added)


FORECAST: Final = Chain(
    name="forecast",
    columns=("universe", *FORECASTS.columns, "opens_at", "observed_at"),
    added={"target": DIRECTION},
    order="symbol, as_of, target_session, horizon, target, model_version",
    clock="issued_at",
)
OUTCOME: Final = Chain(
    name="outcome",
    columns=("universe", *OUTCOMES.columns, "correction"),
    added={"target": DIRECTION, "median_return": None, "median_members": None, "median_basis": None},
    order="symbol, as_of, target_session, horizon, target",
    clock="settled_at",
)


@dataclass(frozen=True)
class Head:
    """The last hash of each chain (64 zeros where it has no batch)."""

    forecasts: str
    outcomes: str

    @property
    def hash(self) -> str:
        """One hash of the whole ledger: sha256 of both heads."""
        return hashlib.sha256((self.forecasts + self.outcomes).encode()).hexdigest()


@dataclass(frozen=True)
class Verification:
    """The counts of a verification and the problems it found, each with its batch or row."""

    batches: int
    forecasts: int
    outcomes: int
    head: Head
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems


def create(path: Path) -> None:
    """Create the ledger's file and its folders, unless it exists.

    Raises:
        LedgerError: it cannot be created.
    """
    with _creation_lock(path), _connected(path, "rwc") as db:
        if _layout(db) == (0, 0):
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            for statement in read_statements():
                db.execute(statement)
            db.execute("COMMIT")


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the ledger for one transaction; what the caller does not commit is rolled back.

    A ledger of an earlier layout is brought to this one first: its rows and hashes stay as they are.

    Raises:
        LedgerError: SQLite failed; the message names the reason, the file and a fix.
    """
    with _connected(path, "rw") as db:
        version, _ = _layout(db)
        if version > _LAYOUT:
            raise LedgerError(
                f"The ledger has layout {version}, this version of nextday reads layouts up to {_LAYOUT}",
                where=str(path),
                fix="install the nextday that wrote it, or a newer one",
            )
        if version == 1:
            _bring_from_layout_1(db)
        elif version < _LAYOUT:
            what, fix = _SQLITE_ERRORS["SQLITE_NOTADB"]
            raise LedgerError(what, where=str(path), fix=fix)
        yield db


def append(db: sqlite3.Connection, chain: Chain, rows: list[dict[str, Any]]) -> int | None:
    """Insert rows of one universe and the batch that seals them; return its number, None without rows."""
    if not rows:
        return None
    last, prev_hash = _end(db, chain)
    number = last + 1
    names, places = ", ".join(chain.columns), ", ".join(f":{name}" for name in chain.columns)
    db.executemany(f"INSERT INTO {chain.name}s (batch, {names}) VALUES ({number}, {places})", rows)
    header = [number, rows[0]["universe"], max(row[chain.clock] for row in rows), len(rows), prev_hash]
    # Hashed as read back, because a verification sees what SQLite stores (0.0 for -0.0).
    seal = _compute_hash(chain, header, _rows(db, chain, number))
    db.execute(f"INSERT INTO {chain.name}_batches VALUES (?, ?, ?, ?, ?, ?)", [*header, seal])
    return number


def head(db: sqlite3.Connection) -> Head:
    """Return the heads of both chains."""
    return Head(_end(db, FORECAST)[1], _end(db, OUTCOME)[1])


def verify(db: sqlite3.Connection, expected_head: str | None) -> Verification:
    """Recompute both chains and check the file, its layout and the times of live rows.

    Args:
        db: The open ledger.
        expected_head: A head noted earlier, which must be part of the ledger's history.
    """
    problems = [*_file_problems(db), *_chain_problems(db, FORECAST), *_chain_problems(db, OUTCOME)]
    problems += _live_problems(db)
    forecasts, outcomes = _hashes(db, FORECAST), _hashes(db, OUTCOME)
    if expected_head is not None and not _was_head(expected_head, forecasts, outcomes):
        problems.append(
            f"{expected_head} was never the head of this ledger: batches were removed or rewritten"
        )
    return Verification(
        batches=len(forecasts) + len(outcomes) - 2,
        forecasts=_count(db, FORECAST),
        outcomes=_count(db, OUTCOME),
        head=head(db),
        problems=problems,
    )


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
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    where = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(where, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            yield db
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _as_ledger_error(error, path) from error


def _as_ledger_error(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerError:
    # SQLite quotes bytes that it cannot read, and Python then fails to decode the message.
    code = "SQLITE_CORRUPT" if isinstance(error, ValueError) else getattr(error, "sqlite_errorname", "")
    for kind, (what, fix) in _SQLITE_ERRORS.items():
        if code.startswith(kind):
            return LedgerError(what, where=str(path), fix=fix)
    return LedgerError(
        f"The ledger refused the operation: {error}", where=str(path), fix="run: nextday ledger verify"
    )


def _layout(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the layout version and the number of tables, read in one query."""
    query = "SELECT (SELECT user_version FROM pragma_user_version), count(*) FROM sqlite_master"
    version, tables = db.execute(query).fetchone()
    return version, tables


def _read_tables_sql() -> str:
    return Path(__file__).with_name("ledger.sql").read_text(encoding="utf-8")


def read_statements() -> Iterator[str]:
    """Yield the statements of ledger.sql, without the comments between them."""
    statement = ""
    for line in _read_tables_sql().splitlines(keepends=True):
        if statement or line.split("--")[0].strip():
            statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip().removesuffix(";")
            statement = ""


def _bring_from_layout_1(db: sqlite3.Connection) -> None:
    """Give the rows of a ledger without targets their columns, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    if _layout(db)[0] == 1:  # another run may have done it meanwhile
        query = "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger', 'index') AND sql IS NOT NULL"
        for kind, name in db.execute(query).fetchall():
            db.execute(f"DROP {kind} {name}")
        for chain in (FORECAST, OUTCOME):
            db.execute(f"ALTER TABLE {chain.name}s RENAME TO {chain.name}s_of_layout_1")
        statements = list(read_statements())
        guards = [statement for statement in statements if statement.startswith("CREATE TRIGGER")]
        for statement in statements:
            if statement not in guards:
                db.execute(statement)
        for chain in (FORECAST, OUTCOME):
            kept = ", ".join(["batch", *(name for name in chain.columns if name not in chain.added)])
            filled = ", ".join("NULL" if value is None else f"'{value}'" for value in chain.added.values())
            db.execute(
                f"INSERT INTO {chain.name}s ({kept}, {', '.join(chain.added)}) "
                f"SELECT {kept}, {filled} FROM {chain.name}s_of_layout_1"
            )
            db.execute(f"DROP TABLE {chain.name}s_of_layout_1")
        for guard in guards:  # they let no row into a sealed batch
            db.execute(guard)
    db.execute("COMMIT")


def _end(db: sqlite3.Connection, chain: Chain) -> tuple[int, str]:
    last = db.execute(
        f"SELECT number, hash FROM {chain.name}_batches ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return (0, _GENESIS) if last is None else (last["number"], last["hash"])


def _rows(db: sqlite3.Connection, chain: Chain, number: int) -> list[sqlite3.Row]:
    query = f"SELECT {', '.join(chain.columns)} FROM {chain.name}s WHERE batch = ? ORDER BY {chain.order}"
    return db.execute(query, [number]).fetchall()


def _compute_hash(chain: Chain, header: list[Any], rows: list[sqlite3.Row]) -> str:
    columns = chain.columns_to_hash(rows)
    content = {
        "chain": chain.name,
        "batch": header,
        "columns": columns,
        "rows": [tuple(row[name] for name in columns) for row in rows],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _hashes(db: sqlite3.Connection, chain: Chain) -> list[str]:
    return [
        _GENESIS,
        *(row[0] for row in db.execute(f"SELECT hash FROM {chain.name}_batches ORDER BY number")),
    ]


def _count(db: sqlite3.Connection, chain: Chain) -> int:
    return int(db.execute(f"SELECT count(*) FROM {chain.name}s").fetchone()[0])


def _was_head(expected: str, forecasts: list[str], outcomes: list[str]) -> bool:
    return any(
        Head(one, other).hash == expected for one in reversed(forecasts) for other in reversed(outcomes)
    )


def _file_problems(db: sqlite3.Connection) -> Iterator[str]:
    for (result,) in db.execute("PRAGMA integrity_check"):
        if result != "ok":
            yield f"the file: {result}"
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_read_tables_sql())
        expected = dict(fresh.execute(query).fetchall())
    actual = dict(tuple(row) for row in db.execute(query))
    for name in sorted(expected):
        if actual.get(name) != expected[name]:
            yield f"the layout: {name} is missing or was changed, so rows could have been changed"


def _chain_problems(db: sqlite3.Connection, chain: Chain) -> Iterator[str]:
    number, last_hash = 0, _GENESIS
    for batch in db.execute(f"SELECT * FROM {chain.name}_batches ORDER BY number"):
        rows = _rows(db, chain, batch["number"])
        name = _describe_batch(chain, batch, rows)
        if batch["number"] != number + 1:
            yield f"{name}: it follows batch {number}: batches between them were removed"
        elif batch["prev_hash"] != last_hash:
            yield f"{name}: it does not contain the hash of the batch before it: one was changed, removed or moved"
        if batch["n"] != len(rows):
            yield f"{name}: it was sealed with {batch['n']} rows and has {len(rows)}: rows were removed or added"
        elif batch["hash"] != _compute_hash(chain, list(batch)[:-1], rows):
            yield f"{name}: its hash does not match its rows: a value was changed"
        number, last_hash = batch["number"], batch["hash"]
    batches = f"SELECT number FROM {chain.name}_batches"
    for (orphan,) in db.execute(f"SELECT DISTINCT batch FROM {chain.name}s WHERE batch NOT IN ({batches})"):
        yield f"{chain.name} batch {orphan}: it has rows, but is not sealed"


def _describe_batch(chain: Chain, batch: sqlite3.Row, rows: list[sqlite3.Row]) -> str:
    days = sorted({row["as_of"] for row in rows}) or ["unknown"]
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{chain.name} batch {batch['number']} ({batch['universe']}, as_of {span})"


def _live_problems(db: sqlite3.Connection) -> Iterator[str]:
    query = """
        WITH earlier AS (SELECT number, max(made_at) OVER (PARTITION BY universe ORDER BY number
          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last FROM forecast_batches)
        SELECT batch, universe, symbol, as_of FROM forecasts JOIN earlier ON number = batch
        WHERE kind = 'live' AND (issued_at < opens_at AND issued_at >= max(observed_at, coalesce(last, '')))
          IS NOT TRUE
    """
    for row in db.execute(query):
        batch = f"forecast batch {row['batch']} ({row['universe']}, as_of {row['as_of']})"
        yield f"{batch}: {row['symbol']} is marked live, but its times make it late"
