"""A ledger in a SQLite file."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from pipeline.ledger.backends import BEGINNINGS, TABLES, read_sql

__all__ = ["SqliteConnection"]


class SqliteConnection(sqlite3.Connection):
    """An open ledger in a SQLite file; see `Connection`."""

    def begin_reading(self) -> None:
        """Begin a transaction that writes nothing."""
        self.execute("PRAGMA query_only = ON")
        self.execute("BEGIN")

    def begin_writing(self) -> None:
        """Begin a transaction with SQLite's lock for writing."""
        self.execute("BEGIN IMMEDIATE")

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows."""
        places = ", ".join(f":{name}" for name in names)
        self.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", rows)

    def select_each(self, sql: str, values: Sequence[Mapping[str, Any]]) -> list[list[sqlite3.Row]]:
        """Run one query with each of the values."""
        return [self.execute(sql, each).fetchall() for each in values]

    def has_table(self, name: str) -> bool:
        """Return whether the ledger has a table."""
        return bool(self.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [name]).fetchone())

    def make_beginnings(self) -> None:
        """Make the tables of accepted losses."""
        self.executescript(read_sql(BEGINNINGS))

    def find_damage(self, *, with_beginnings: bool) -> Iterator[str]:
        """Name what is damaged, missing or changed."""
        for (result,) in self.execute("PRAGMA integrity_check"):
            if result != "ok":
                yield f"the file: {result}"
        expected, actual = self._layouts(with_beginnings)
        for name in sorted(expected):
            if actual.get(name) != expected[name]:
                yield f"the layout: {name} is missing or was changed, so rows could have been changed"

    def find_foreign_parts(self, *, with_beginnings: bool) -> Iterator[str]:
        """Name what does not belong to a ledger."""
        expected, actual = self._layouts(with_beginnings)
        kinds = dict(self.execute("SELECT name, type FROM sqlite_master").fetchall())
        for name in sorted(actual.keys() - expected.keys()):
            if not name.startswith("sqlite_"):
                yield f"the layout: the {kinds[name]} {name!r} does not belong to a ledger: drop it"

    def _layouts(self, with_beginnings: bool) -> tuple[dict[str, str], dict[str, str]]:
        """Return the statements that make a ledger's parts, by name, as they should be and as they are."""
        query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        with closing(sqlite3.connect(":memory:")) as fresh:
            fresh.executescript(read_sql(TABLES))
            if with_beginnings:
                fresh.executescript(read_sql(BEGINNINGS))
            return dict(fresh.execute(query).fetchall()), dict(tuple(row) for row in self.execute(query))
