"""Where a ledger on PostgreSQL is, and the fetch logs beside it: the database, and a schema in it for each."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from pipeline.storage.service_address import read_address

__all__ = ["FetchLogDatabase", "FetchLogPlace", "LedgerDatabase", "LedgerPlace", "locate_ledger"]

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class LedgerDatabase:
    """A ledger on PostgreSQL; as text it names host, database and schema, never the password.

    Attributes:
        dsn: What libpq connects to.
        schema: The schema that holds the ledger alone: several workspaces can share a database.
        head_note: The file in the workspace with the last head that this workspace has seen.
    """

    dsn: str
    schema: str
    head_note: Path

    def __str__(self) -> str:
        """Return host, database and schema."""
        parts = urlsplit(self.dsn)
        user = f"{parts.username}@" if parts.username else ""
        host = f"{user}{parts.hostname or 'localhost'}{f':{parts.port}' if parts.port else ''}"
        return f"postgresql://{host}{parts.path}?schema={self.schema}"

    def __repr__(self) -> str:
        """Return the same: a traceback shows no password either."""
        return f"LedgerDatabase({self})"


@dataclass(frozen=True)
class FetchLogDatabase:
    """The fetch log of a universe, in a schema beside that of the ledger.

    Attributes:
        ledger: The ledger that it belongs to.
        universe: The universe's name.
        file: The log that this workspace had before, which the database takes over while it has none.
    """

    ledger: LedgerDatabase
    universe: str
    file: Path

    @property
    def database(self) -> LedgerDatabase:
        """The database with the schema of the fetch logs."""
        return replace(self.ledger, schema=f"{self.ledger.schema}_fetches")

    def __str__(self) -> str:
        """Return host, database, schema and universe."""
        return f"{self.database}, universe {self.universe}"


LedgerPlace = Path | LedgerDatabase
"""A SQLite file, or a schema of a PostgreSQL database."""

FetchLogPlace = Path | FetchLogDatabase
"""The same for a fetch log."""


def locate_ledger(address: str, file: Path) -> LedgerPlace:
    """Return where a ledger is.

    Args:
        address: postgresql://user@host/database?schema=NAME (the schema's default is nextday); "env:NAME": the
            environment variable NAME holds it, and may then hold a password; empty: the file.
        file: The SQLite file of the workspace; the note of the last head is next to it in any case.

    Raises:
        InputError: the variable is not set, or its content is no such address.
    """
    if not address:
        return file
    parts = read_address(
        address,
        where="[storage] ledger",
        service="a PostgreSQL database",
        fix="write postgresql://user@host/database?schema=nextday; a schema has at most 40 characters a-z, 0-9, _",
        is_usable=lambda parts: (
            parts.scheme in ("postgresql", "postgres")
            and len(parts.path) > 1
            and bool(_SCHEMA.fullmatch(_read_schema(parts)))
        ),
    )
    query = "&".join(each for each in parts.query.split("&") if each and not each.startswith("schema="))
    dsn = parts._replace(query=query, scheme="postgresql").geturl()
    return LedgerDatabase(dsn, _read_schema(parts), file.with_name(f"{file.stem}.head.json"))


def _read_schema(parts: SplitResult) -> str:
    return parse_qs(parts.query).get("schema", ["nextday"])[0]
