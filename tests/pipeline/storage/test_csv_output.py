"""The quick way of writing a table is the slow one's equal."""

import io
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.storage.csv_output import format_csv, write_plain_csv


def table(rows: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(rng.integers(0, 2, rows), pd.Index(["^GSPC", "BRK.B"])),
            "as_of": pd.bdate_range("2014-01-02", periods=rows).strftime("%Y-%m-%d"),
            "horizon": rng.integers(1, 20, rows).astype("int16"),
            "p_up": rng.random(rows),
            "outcome": np.where(rng.random(rows) < 0.1, np.nan, rng.integers(0, 2, rows)),
            "realized_return": rng.normal(0, 0.01, rows),
            "last_close": 10 ** rng.uniform(-4, 7, rows),
        }
    )


def test_the_quick_table_is_the_usual_one_to_the_byte() -> None:
    wanted, file = table(), io.BytesIO()
    write_plain_csv(file, list(wanted), [wanted.iloc[:700], wanted.iloc[700:]])
    usual = format_csv(wanted.astype({"symbol": "str"}))
    assert file.getvalue().decode() == usual


@pytest.mark.parametrize("cell", ["A,B", math.inf])
def test_what_is_not_plain_is_refused_by_the_quick_table(cell: object) -> None:
    with pytest.raises(pa.ArrowInvalid):
        write_plain_csv(io.BytesIO(), ["cell"], [pd.DataFrame({"cell": [cell]})])


def test_without_rows_the_quick_table_has_its_header() -> None:
    file = io.BytesIO()
    write_plain_csv(file, ["symbol", "p_up"], [])
    assert file.getvalue() == b"symbol,p_up\n"


def test_categories_are_disarmed_as_texts_are() -> None:
    told = pd.DataFrame({"name": pd.Categorical(["=1+1", "plain"])})
    assert format_csv(told) == "name\n'=1+1\nplain\n"
