"""The two databases that can hold a ledger: the same tables, triggers, chains and queries on SQLite and PostgreSQL.

Queries are written in the SQL that both understand, with :name and ? for values; what differs is a method of
`Connection`.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = [
    "BEGINNINGS",
    "TABLES",
    "Cells",
    "Connection",
    "Row",
    "declared_types",
    "read_sql",
    "read_statements",
]

TABLES: Final = "ledger.sql"
BEGINNINGS: Final = "beginnings.sql"

Row = Any
"""A row: cells by position and by name, in the order of the query."""

Cells = tuple[Any, ...]
"""The cells of a row by position alone."""


class Connection(Protocol):
    """An open ledger. What is not committed when it is closed is rolled back."""

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Run one statement; return its cursor."""

    def begin_reading(self) -> None:
        """Begin a transaction that sees one state of the ledger and writes nothing."""

    def begin_writing(self) -> None:
        """Begin a transaction as the ledger's only writer; wait for another one."""

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, of which `names` are the columns."""

    def select_each(self, sql: str, values: Sequence[Mapping[str, Any]]) -> list[list[Row]]:
        """Run one query with each of the values; return the rows of each."""

    def has_table(self, name: str) -> bool:
        """Return whether the ledger has a table."""

    def make_beginnings(self) -> None:
        """Make the tables of accepted losses, unless they exist; not within a transaction."""

    def find_damage(self, *, with_beginnings: bool) -> Iterator[str]:
        """Name what is damaged, missing or changed of the ledger's files, tables and triggers."""

    def find_foreign_parts(self, *, with_beginnings: bool) -> Iterator[str]:
        """Name what does not belong to a ledger: a trigger may change what is written, a view hide what is read."""


def read_sql(name: str) -> str:
    """Return the statements of TABLES or BEGINNINGS, as SQLite runs them."""
    return Path(__file__).parent.with_name(name).read_text(encoding="utf-8")


def declared_types(table: str) -> dict[str, str]:
    """Return the columns of a table or view of the ledger with their types: INTEGER, REAL or TEXT."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(read_sql(TABLES))
        return {name: kind for _, name, kind, *_ in fresh.execute(f"PRAGMA table_info({table})")}


def read_statements() -> Iterator[str]:
    """Yield the statements of ledger.sql, without its transaction and the comments between them."""
    statement = ""
    for line in read_sql(TABLES).splitlines(keepends=True):
        if statement or line.split("--")[0].strip():
            statement += line
        if sqlite3.complete_statement(statement):
            if statement.strip() not in ("BEGIN IMMEDIATE;", "COMMIT;"):
                yield statement.strip().removesuffix(";")
            statement = ""
