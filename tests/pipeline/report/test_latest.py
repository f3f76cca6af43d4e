"""latest.csv always has the forecasts of the newest sealed session."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.report.files import find_foreign_latest, write
from tests.pipeline.report.test_files import TARGET, a_report, forecasts


def unsettled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return forecasts as the ledger returns them, none of them settled."""
    nothing = pd.Series(pd.NaT, rows.index, dtype="datetime64[us, UTC]")
    return rows.drop(columns="is_new").assign(outcome=np.nan, realized_return=np.nan, settled_at=nothing)


def test_a_latest_from_the_future_is_replaced_by_the_newest_forecasts(tmp_path: Path) -> None:
    """A clock that was wrong once would keep every later forecast out of latest.csv."""
    future = b"target_session,symbol\n2031-01-02,^GSPC\n"
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "latest.csv").write_bytes(future)
    later = forecasts("^GSPC", as_of=TARGET, target_session=pd.Timestamp("2019-01-03"))
    old = a_report("^GSPC", record=unsettled(pd.concat([forecasts("^GSPC"), later])))
    assert find_foreign_latest(old, tmp_path) is None
    assert write(old, tmp_path).latest_csv.read_bytes() == future
    report = a_report("^GSPC", record=unsettled(forecasts("^GSPC")))
    assert find_foreign_latest(report, tmp_path) == date(2031, 1, 2)
    written = write(report, tmp_path)
    assert written.latest_csv.read_bytes() == written.forecast_csv.read_bytes()
    assert find_foreign_latest(report, tmp_path) is None
