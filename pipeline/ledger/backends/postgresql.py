"""A ledger in a schema of a PostgreSQL database.

Tables, indexes and triggers are made of the statements in ledger.sql. What may differ from SQLite without changing a
hash: whole numbers are BIGINT, reals double precision, and text sorts by its bytes (COLLATE "C"). One writer at a time,
on however many hosts: the advisory lock of the schema is held until the transaction ends.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import LedgerError, LedgerUnreachableError
from pipeline.ledger.backends import BEGINNINGS, TABLES, Row, read_sql
from pipeline.storage.ledger_database import LedgerDatabase
from pipeline.storage.postgres import connected, lock_schema

if TYPE_CHECKING:
    import psycopg

__all__ = ["LAYOUT", "PostgresConnection", "opened"]

LAYOUT: Final = 3
_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) (\(.*?\n\)) STRICT[^;]*;", re.DOTALL)
_INDEX: Final = re.compile(r"CREATE (UNIQUE )?INDEX IF NOT EXISTS (\w+)\s+(ON .*?);", re.DOTALL)
_TRIGGER: Final = re.compile(
    r"CREATE TRIGGER IF NOT EXISTS (\w+) BEFORE (\w+) ON (\w+)\s+(?:WHEN (.*?))?BEGIN SELECT RAISE\(ABORT, '(.*?)'\); "
    r"END;",
    re.DOTALL,
)
_VALUE: Final = re.compile(r"(?<![:\w]):(\w+)")
_VIEW: Final = re.compile(r"CREATE VIEW IF NOT EXISTS record AS(.*?);", re.DOTALL)
_TYPES: Final = {"INTEGER": "BIGINT", "REAL": "DOUBLE PRECISION", "TEXT": 'TEXT COLLATE "C"'}
_EVENTS: Final = {"INSERT": 7, "DELETE": 11, "UPDATE": 19, "TRUNCATE": 34}
"""pg_trigger.tgtype: before each row of an insert, delete or update, before a statement that truncates."""


class _Cells(tuple[Any, ...]):
    """A row, whose cells have places and names."""

    __slots__ = ()
    places: Mapping[str, int]

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.places[key] if isinstance(key, str) else key)


@cache
def _row_class(names: tuple[str, ...]) -> type[_Cells]:
    places = {name: place for place, name in enumerate(names)}
    return type("_Named", (_Cells,), {"__slots__": (), "places": places})


def _name_cells(cursor: "psycopg.Cursor[Any]") -> Any:
    described = cursor.description
    return _row_class(tuple(column.name for column in described)) if described else tuple


class PostgresConnection:
    """An open ledger in a PostgreSQL database; see `Connection`."""

    def __init__(self, db: "psycopg.Connection[Row]", schema: str) -> None:
        self._db, self._schema = db, schema

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Run one statement of the SQL that both databases understand."""
        return self._db.execute(_translate(sql), parameters or None)

    def begin_reading(self) -> None:
        """Begin a transaction that sees one state and writes nothing."""
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def begin_writing(self) -> None:
        """Begin a transaction with the advisory lock of this ledger."""
        self.execute("BEGIN")
        lock_schema(self._db, self._schema)

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows; -0.0 becomes 0.0, as in SQLite."""
        statement: Any = f"COPY {table} ({', '.join(names)}) FROM STDIN"
        with self._db.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(
                    [cell + 0.0 if isinstance(cell := row[name], float) else cell for name in names]
                )

    def select_each(self, sql: str, values: Sequence[Mapping[str, Any]]) -> list[list[Row]]:
        """Run one query with each of the values, all of them in one statement."""
        if not values:
            return []
        found: list[list[Row]] = [[] for _ in values]
        names = [*dict.fromkeys(_VALUE.findall(sql))]
        asked = [{"place": place} | {name: each[name] for name in names} for place, each in enumerate(values)]
        for row in self.execute(_join_values(sql, _column_types(names, values)), [json.dumps(asked)]):
            found[row["place"]].append(row)
        return found

    def has_table(self, name: str) -> bool:
        """Return whether the ledger has a table."""
        # Read from the catalog: to_regclass may answer from a cache of before another host's commit.
        query = (
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = ? AND c.relname = ?"
        )
        return bool(self.execute(query, [self._schema, name]).fetchone())

    def make_beginnings(self) -> None:
        """Make the tables of accepted losses."""
        self.begin_writing()
        if not self.has_table("beginnings"):
            self._run(_statements(BEGINNINGS, self._schema))
        self.execute("COMMIT")

    def create(self) -> None:
        """Make the schema and its tables, unless there are any."""
        if self.has_table("forecasts"):
            return
        self.begin_writing()
        if not self.has_table("forecasts"):  # another host may have made it meanwhile
            comment = f"COMMENT ON SCHEMA {self._schema} IS 'nextday ledger, layout {LAYOUT}'"
            self._run(
                [f"CREATE SCHEMA IF NOT EXISTS {self._schema}", *_statements(TABLES, self._schema), comment]
            )
        self.execute("COMMIT")

    def read_layout(self) -> int:
        """Return the layout of the ledger, 0 if there is none."""
        query = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = ?"
        found = self.execute(query, [self._schema]).fetchone()
        noted = re.fullmatch(r"nextday ledger, layout (\d+)", (found and found[0]) or "")
        return int(noted[1]) if noted else 0

    def set_aside(self, name: str) -> None:
        """Rename the schema."""
        self.execute(f"ALTER SCHEMA {self._schema} RENAME TO {name}")

    def find_damage(self, *, with_beginnings: bool) -> Iterator[str]:
        """Name each trigger, index or column that is missing, switched off or other than it was made."""
        expected, actual = _expected(self._schema, with_beginnings), self._parts()
        for name in sorted(expected):
            if actual.get(name) != expected[name]:
                yield f"the layout: {name} is missing or was changed, so rows could have been changed"

    def find_foreign_parts(self, *, with_beginnings: bool) -> Iterator[str]:
        """Name each trigger, rule and view that does not belong to a ledger."""
        own = _expected(self._schema, with_beginnings).keys()
        for name in sorted(self._parts().keys() - own):
            yield f"the layout: {name!r} does not belong to a ledger: drop it"

    def _run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self._db.execute(statement.encode())

    def _parts(self) -> dict[str, tuple[Any, ...]]:
        """Return triggers, indexes, columns and rules of the schema's tables, as far as they can be compared."""
        queries = (
            "SELECT t.tgname, c.relname, t.tgtype::int, t.tgenabled::text, p.prosrc FROM pg_trigger t "
            "JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE NOT t.tgisinternal AND c.relnamespace = to_regnamespace(?)",
            "SELECT c.relname, t.relname, i.indisunique, i.indisvalid FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid "
            "WHERE NOT i.indisprimary AND c.relname NOT LIKE '%_key' AND c.relnamespace = to_regnamespace(?)",
            "SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
            "JOIN pg_class c ON c.oid = a.attrelid "
            "WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r' AND c.relnamespace = to_regnamespace(?)",
            "SELECT 'rule ' || r.rulename || ' of ' || c.relname FROM pg_rewrite r "
            "JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = to_regnamespace(?)",
        )
        found = [row for query in queries for row in self.execute(query, [self._schema])]
        return {row[0]: tuple(row)[1:] for row in found}


@contextmanager
def opened(place: LedgerDatabase) -> Iterator[PostgresConnection]:
    """Connect to the ledger's database for one transaction; what is not committed is rolled back.

    Raises:
        LedgerUnreachableError: the database cannot be reached, or went away; nothing is written twice by a rerun.
        LedgerError: the ledger refused a row, or another host holds its lock.
        InputError: the driver is not installed.
    """
    with connected(
        place,
        "ledger",
        refused=LedgerError,
        unreachable=LedgerUnreachableError,
        outcome="what was sealed stays, and nothing is sealed twice",
        check="run: nextday ledger verify",
        row_factory=_name_cells,
    ) as db:
        yield PostgresConnection(db, place.schema)


@cache
def _translate(sql: str) -> Any:
    """Return a statement with psycopg's placeholders; `record` is what ledger.sql defines, not a view."""
    view = _VIEW.search(read_sql(TABLES))
    text = re.sub(r"\bFROM record\b", f"FROM ({view[1] if view else ''}) AS record", sql.replace("%", "%%"))
    return _VALUE.sub(r"%(\1)s", text).replace("?", "%s").encode()


def _column_types(names: Sequence[str], values: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return the names of values with the types that PostgreSQL reads them as."""
    types = {int: "BIGINT", float: "DOUBLE PRECISION"}
    return tuple(
        (name, next((types[type(each[name])] for each in values if type(each[name]) in types), "TEXT"))
        for name in names
    )


@cache
def _join_values(sql: str, types: tuple[tuple[str, str], ...]) -> str:
    """Return a statement that runs a query with each of the values, which are one parameter, a JSON text."""
    columns = ", ".join(f"{name} {kind}" for name, kind in (("place", "BIGINT"), *types))
    query = _VALUE.sub(r"asked.\1", sql)
    return f"SELECT * FROM json_to_recordset(?) AS asked({columns}) CROSS JOIN LATERAL ({query}) AS found"


def _statements(file: str, schema: str) -> list[str]:
    """Return the statements that make the tables, indexes and triggers of a file on PostgreSQL."""
    text = re.sub(r"--[^\n]*", "", read_sql(file))
    tables = [f"CREATE TABLE {schema}.{name} {_typed(body)}" for name, body in _TABLE.findall(text)]
    indexes = [
        f"CREATE {kind}INDEX {name} {re.sub(r'^ON ', f'ON {schema}.', rest)}"
        for kind, name, rest in _INDEX.findall(text)
    ]
    triggers = list[str]()
    for name, (table, event, source) in _triggers(file, schema).items():
        each = "STATEMENT" if event == "TRUNCATE" else "ROW"
        triggers += [
            f"CREATE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql AS $body${source}$body$",
            f"CREATE TRIGGER {name} BEFORE {event} ON {schema}.{table} FOR EACH {each} "
            f"EXECUTE FUNCTION {schema}.{name}()",
        ]
    return [*_by_reference([re.sub(r"REFERENCES ", f"REFERENCES {schema}.", each) for each in tables]), *indexes,
            *triggers]  # fmt: skip


def _by_reference(tables: list[str]) -> list[str]:
    return sorted(tables, key=lambda table: "REFERENCES" in table)


def _typed(body: str) -> str:
    return re.sub(r"\b(INTEGER|REAL|TEXT)\b", lambda found: _TYPES[found[1]], body)


def _triggers(file: str, schema: str) -> dict[str, tuple[str, str, str]]:
    """Return the table, the event and the function's source of each trigger."""
    text, found = read_sql(file), dict[str, tuple[str, str, str]]()
    for name, event, table, condition, message in _TRIGGER.findall(text):
        when = re.sub(r"\bFROM (\w+)", rf"FROM {schema}.\1", condition.strip()) or "TRUE"
        found[name] = (table, event, _refusal(when, message))
    for table, _ in _TABLE.findall(re.sub(r"--[^\n]*", "", text)):
        message = f"the ledger is append-only: no truncate of {table}"
        found[f"{table}_no_truncate"] = (table, "TRUNCATE", _refusal("TRUE", message))
    return found


def _refusal(when: str, message: str) -> str:
    return f"\nBEGIN\n  IF {when} THEN\n    RAISE EXCEPTION '{message}';\n  END IF;\n  RETURN NEW;\nEND "


def _expected(schema: str, with_beginnings: bool) -> dict[str, tuple[Any, ...]]:
    """Return what `_parts` finds in a whole ledger."""
    expected = dict[str, tuple[Any, ...]]()
    for file in (TABLES, BEGINNINGS) if with_beginnings else (TABLES,):
        text = re.sub(r"--[^\n]*", "", read_sql(file))
        for name, (table, event, source) in _triggers(file, schema).items():
            expected[name] = (table, _EVENTS[event], "O", source)
        for kind, name, rest in _INDEX.findall(text):
            expected[name] = (rest.split()[1], bool(kind), True)
        for table, body in _TABLE.findall(text):
            for name, kind in re.findall(r"^  (\w+) (INTEGER|REAL|TEXT)\b", body, re.MULTILINE):
                expected[f"{table}.{name}"] = (_TYPES[kind].split(" COLLATE")[0].lower(),)
    return expected
