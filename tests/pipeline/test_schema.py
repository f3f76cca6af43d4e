"""A row's layout is written once, in the schema: the tables and files that repeat its columns agree with it."""

import sqlite3
from pathlib import Path

import pandera.pandas as pa
import pytest

from pipeline.ledger.ledger import Ledger
from pipeline.report.files import FORECAST_COLUMNS
from pipeline.schema import DIRECTIONS, FORECASTS, OUTCOMES, column_types

SQL_TYPES = {"int64": "INTEGER", "float64": "REAL"}
"""How SQLite stores a column of this type; all others are TEXT."""


@pytest.mark.parametrize(
    ("table", "schema", "further"),
    [
        ("forecasts", FORECASTS, {"opens_at": ("TEXT", True), "observed_at": ("TEXT", False)}),
        ("outcomes", OUTCOMES, {"correction": ("INTEGER", False)}),
    ],
)
def test_a_table_of_the_ledger_has_the_columns_types_and_nulls_of_the_schema(
    tmp_path: Path, table: str, schema: pa.DataFrameSchema, further: dict[str, tuple[str, bool]]
) -> None:
    Ledger(tmp_path / "ledger.sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        stored = db.execute(f"SELECT name, type, \"notnull\" FROM pragma_table_info('{table}')").fetchall()
    columns = {
        name: (SQL_TYPES.get(kind, "TEXT"), schema.columns[name].nullable)
        for name, kind in column_types(schema).items()
    }
    expected = {"batch": ("INTEGER", False), "universe": ("TEXT", False), **columns, **further}
    assert {name: (kind, not required) for name, kind, required in stored} == expected
    assert [name for name, _, _ in stored] == list(expected)


def test_the_ledger_accepts_the_directions_of_the_schema(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'forecasts'").fetchone()
    assert f"direction IN ({', '.join(map(repr, DIRECTIONS))})" in sql


def test_forecast_csv_has_every_column_of_a_forecast_but_its_role_and_some_of_its_report() -> None:
    assert {*FORECAST_COLUMNS} == {*FORECASTS.columns} - {"role"} | {
        "coverage",
        "survivorship_biased",
        "last_call",
        "differs_from_base_rate",
        "p_low",
        "p_high",
        "data_coverage",
    }
    assert len(FORECAST_COLUMNS) == len({*FORECAST_COLUMNS})
