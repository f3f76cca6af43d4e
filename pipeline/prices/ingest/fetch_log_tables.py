"""The tables of a fetch log: in a SQLite file beside the prices, or on PostgreSQL beside the ledger.

Both hold the same rows, and both understand the queries of `FetchLog`. On PostgreSQL the universes share two tables.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pipeline.errors import InputError, StoreError, StoreUnreachableError
from pipeline.storage.database_checksum import check_database, note_database
from pipeline.storage.ledger_database import FetchLogDatabase, FetchLogPlace
from pipeline.storage.postgres import connected, lock_schema
from pipeline.storage.workspace import Workspace

if TYPE_CHECKING:
    import psycopg

__all__ = ["ANSWERS", "QUARANTINE", "Tables", "copy_logs", "list_logs", "open_tables"]

ANSWERS: Final = ("symbol", "session", "outcome", "is_whole", "asked_from", "observed_at", "bars", "reason")
QUARANTINE: Final = ("id", "at", "instrument_id", "symbol", "event", "rule", "evidence")
_COLUMNS: Final = {"answers": ANSWERS, "quarantine": QUARANTINE}

_LAYOUT: Final = 1
_IN_A_FILE: Final = """
CREATE TABLE IF NOT EXISTS answers (
  symbol TEXT NOT NULL,
  session TEXT NOT NULL,       -- the last closed one when the source was asked
  outcome TEXT NOT NULL,
  is_whole INTEGER NOT NULL,   -- 1: the whole history was requested, 0: recent sessions only
  asked_from TEXT NOT NULL,
  observed_at TEXT NOT NULL,
  bars INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (symbol, session, outcome, is_whole, asked_from)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
  id INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  instrument_id TEXT NOT NULL,
  symbol TEXT NOT NULL,
  event TEXT NOT NULL CHECK (event IN ('held', 'released', 'ended')),
  rule TEXT NOT NULL,
  evidence TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
"""
_ON_POSTGRES: Final = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE {schema}.answers (
  universe TEXT COLLATE "C" NOT NULL,
  symbol TEXT COLLATE "C" NOT NULL,
  session TEXT COLLATE "C" NOT NULL,
  outcome TEXT COLLATE "C" NOT NULL,
  is_whole BIGINT NOT NULL,
  asked_from TEXT COLLATE "C" NOT NULL,
  observed_at TEXT COLLATE "C" NOT NULL,
  bars BIGINT NOT NULL,
  reason TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (universe, symbol, session, outcome, is_whole, asked_from)
);
CREATE TABLE {schema}.quarantine (
  universe TEXT COLLATE "C" NOT NULL,
  id BIGINT NOT NULL,
  at TEXT COLLATE "C" NOT NULL,
  instrument_id TEXT COLLATE "C" NOT NULL,
  symbol TEXT COLLATE "C" NOT NULL,
  event TEXT COLLATE "C" NOT NULL CHECK (event IN ('held', 'released', 'ended')),
  rule TEXT COLLATE "C" NOT NULL,
  evidence TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (universe, id)
);
COMMENT ON TABLE {schema}.answers IS 'nextday fetch log, layout {layout}'
"""
_FIX: Final = (
    "restore the file from a backup; without one, move it and its .sha256 away: then the whole history of every symbol "
    "is requested and compared again"
)
_TIMEOUT: Final = 30.0  # seconds to wait for another connection

Row = tuple[Any, ...]


class Rows(Protocol):
    """The rows within a transaction."""

    def select(self, query: str, *values: str) -> list[Row]:
        """Return the rows of a query, with ? for values."""

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows with the columns ANSWERS or QUARANTINE; one whose key is there already is left out."""


class Tables(Protocol):
    """The tables `answers` and `quarantine` of one universe.

    Raises:
        StoreError: in every method: they are locked, damaged, of a newer layout, or cannot be written.
        StoreUnreachableError: in every method: the database cannot be reached.
    """

    def exist(self) -> bool:
        """Return whether anything was written yet."""

    def select(self, query: str, *values: str) -> list[Row]:
        """Return the rows of a query, with ? for values; none where nothing was written yet."""

    def writing(self) -> AbstractContextManager[Rows]:
        """Begin a transaction as the only writer, and commit it at the end of the block."""


def open_tables(place: FetchLogPlace) -> Tables:
    """Return the tables at a place."""
    return _File(place) if isinstance(place, Path) else _Database(place)


def list_logs(workspace: Workspace) -> list[str]:
    """Return the universes that have a fetch log.

    Raises:
        StoreUnreachableError: the database cannot be reached.
    """
    names, ledger = {*workspace.logged_universes()}, workspace.ledger
    if not isinstance(ledger, Path):
        names |= _Database(FetchLogDatabase(ledger, "", workspace.home)).universes()
    return sorted(names)


def copy_logs(source: Workspace, target: Workspace, universes: Sequence[str]) -> None:
    """Copy the fetch logs of these universes, each in one transaction; the next copy completes an interrupted one.

    Raises:
        InputError: another log lies there already.
        StoreError: a log cannot be read or written.
    """
    for name in universes:
        _copy(open_tables(source.fetch_log(name)), target.fetch_log(name))


def _copy(source: Tables, place: FetchLogPlace) -> None:
    rows = {table: source.select(_select_all(table)) for table in _COLUMNS}
    with open_tables(place).writing() as log:
        for table, given in rows.items():
            log.add(table, given)
            if sorted(log.select(_select_all(table))) != sorted(given):
                raise InputError(
                    "Another fetch log lies there already, and a copy overwrites nothing",
                    where=str(place),
                    fix="name an empty schema, or move that file and its .sha256 away",
                )


def _select_all(table: str) -> str:
    return f"SELECT {', '.join(_COLUMNS[table])} FROM {table}"


class _FileRows:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def select(self, query: str, *values: str) -> list[Row]:
        return self._db.execute(query, values).fetchall()

    def add(self, table: str, rows: Sequence[Row]) -> None:
        names = _COLUMNS[table]
        places = ", ".join("?" * len(names))
        self._db.executemany(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places}) ON CONFLICT DO NOTHING", rows
        )


class _File:
    """Tables in a SQLite file with a checksum; see `Tables`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exist(self) -> bool:
        return self._path.exists()

    def select(self, query: str, *values: str) -> list[Row]:
        if not self._path.exists():
            check_database(self._path, _FIX)
            return []
        with self._connected() as db:
            return _FileRows(db).select(query, *values)

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            yield _FileRows(db)
            db.execute("COMMIT")
        note_database(self._path)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            check_database(self._path, _FIX)
            with closing(sqlite3.connect(self._path, timeout=_TIMEOUT, isolation_level=None)) as db:
                layout = db.execute("PRAGMA user_version").fetchone()[0]
                if layout > _LAYOUT:
                    raise _unusable(_newer(layout), str(self._path))
                if layout == 0:
                    db.executescript(f"BEGIN IMMEDIATE; {_IN_A_FILE} COMMIT;")
                yield db
        except (sqlite3.Error, OSError) as error:
            raise _unusable(str(error), str(self._path)) from None


class _DatabaseRows:
    def __init__(self, db: "psycopg.Connection[Row]", schema: str, universe: str) -> None:
        self._db, self._schema, self._universe = db, schema, universe

    def select(self, query: str, *values: str) -> list[Row]:
        """Let the query see this universe alone; inlined, it still finds rows by the primary key."""
        views = ", ".join(
            f"{table} AS NOT MATERIALIZED (SELECT {', '.join(names)} FROM {self._schema}.{table} WHERE universe = %s)"
            for table, names in _COLUMNS.items()
        )
        text = f"WITH {views} {query.replace('?', '%s')}"
        return self._db.execute(text.encode(), [self._universe] * len(_COLUMNS) + [*values]).fetchall()

    def add(self, table: str, rows: Sequence[Row]) -> None:
        names = ("universe", *_COLUMNS[table])
        places = ", ".join(["%s"] * len(names))
        text = f"INSERT INTO {self._schema}.{table} ({', '.join(names)}) VALUES ({places}) ON CONFLICT DO NOTHING"
        with self._db.cursor() as cursor:
            cursor.executemany(text.encode(), [(self._universe, *row) for row in rows])

    def has_any(self) -> bool:
        return bool(self.select("SELECT 1 FROM answers UNION ALL SELECT 1 FROM quarantine LIMIT 1"))


class _Database:
    """Tables in a schema of a PostgreSQL database; see `Tables`.

    The first use takes over the log that the workspace had as a file before, unless another machine brought its own.
    """

    def __init__(self, place: FetchLogDatabase) -> None:
        self._place, self._schema = place, place.database.schema

    def exist(self) -> bool:
        with self._reading() as log:
            return log is not None and log.has_any()

    def select(self, query: str, *values: str) -> list[Row]:
        with self._reading() as log:
            return [] if log is None else log.select(query, *values)

    def universes(self) -> set[str]:
        with self._connected() as db:
            if not self._read_layout(db):
                return set()
            tables = " UNION ".join(f"SELECT universe FROM {self._schema}.{table}" for table in _COLUMNS)
            return {name for (name,) in db.execute(tables.encode())}

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        with self._connected() as db:
            db.execute("BEGIN")
            lock_schema(db, self._schema)
            if not self._read_layout(db):
                db.execute(_ON_POSTGRES.format(schema=self._schema, layout=_LAYOUT).encode())
            log = self._rows(db)
            if self._place.file.is_file() and not log.has_any():
                for table in _COLUMNS:
                    log.add(table, _File(self._place.file).select(_select_all(table)))
            yield log
            db.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[_DatabaseRows | None]:
        with self._connected() as db:
            log = self._rows(db) if self._read_layout(db) else None
            if self._place.file.is_file() and not (log and log.has_any()):
                with self.writing():
                    log = self._rows(db)
            yield log

    def _rows(self, db: "psycopg.Connection[Row]") -> _DatabaseRows:
        return _DatabaseRows(db, self._schema, self._place.universe)

    @contextmanager
    def _connected(self) -> Iterator["psycopg.Connection[Row]"]:
        with connected(
            self._place.database,
            "fetch log",
            refused=StoreError,
            unreachable=StoreUnreachableError,
            outcome="what was logged stays, and nothing is logged twice",
            check="check that its user may create a schema in that database, and select and insert in this one",
        ) as db:
            yield db

    def _read_layout(self, db: "psycopg.Connection[Row]") -> int:
        """Return the layout of the tables, 0 where there are none."""
        # Read from the catalog: to_regclass may answer from a cache of before another host's commit.
        query = (
            "SELECT coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = 'answers'"
        )
        found = db.execute(query, [self._schema]).fetchone()
        if found is None:
            return 0
        noted = re.fullmatch(r"nextday fetch log, layout (\d+)", found[0])
        layout = int(noted[1]) if noted else 0
        if not 1 <= layout <= _LAYOUT:
            raise _unusable(_newer(layout) if noted else "it is no fetch log", str(self._place))
        return layout


def _newer(layout: int) -> str:
    return f"a newer nextday wrote it (layout {layout})"


def _unusable(reason: str, where: str) -> StoreError:
    return StoreError(
        f"The fetch log cannot be used: {reason:.200}",
        where=where,
        fix=f"check disk space and permissions, or {_FIX}",
    )
