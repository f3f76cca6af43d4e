"""A wrong open costs the open, a missing range the range where the source may lack it: never the bar."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.export import export_csv
from pipeline.prices.ingest.quality import Checked, check
from pipeline.prices.revisions import read_history
from pipeline.prices.store import VALUES, PriceStore
from pipeline.sources import Fetched
from tests.conftest import NOW, vendor_bars

WEEK = pd.DatetimeIndex(["2018-12-10", "2018-12-11", "2018-12-12", "2018-12-13", "2018-12-14"])
LATER = pd.Timestamp("2100-01-01")


def checked(
    bars: pd.DataFrame, days: Calendar, *, partial: bool, stored: pd.DataFrame | None = None
) -> Checked:
    answer = Fetched("A", "ok", NOW, bars=bars, may_lack_range=partial)
    return check([answer], days, LATER, source="test", historical=True, stored=stored)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("opened", [0.0, -3.0, np.inf, 10.8, 9.3])
def test_an_open_that_cannot_be_one_costs_the_open(xnys: Calendar, opened: float, partial: bool) -> None:
    bars = vendor_bars(WEEK, [10.0, 10.1, 10.2, 10.1, 10.0])
    bars.loc[[1, 3], "open"] = opened
    bars.loc[1, "dividend"] = 0.1
    result = checked(bars, xnys, partial=partial)
    assert result.prices["open"].isna().tolist() == [False, True, False, True, False]
    assert result.prices["close"].tolist() == [10.0, 10.1, 10.2, 10.1, 10.0]
    assert result.prices["dividend"].tolist() == [0, 0.1, 0, 0, 0]
    (row,) = result.findings[result.findings["rule"] != "dividend in doubt"].itertuples()
    assert (row.session, row.rule) == (WEEK[3], "the open is 0, or outside low..high")
    assert row.detail.startswith(f"2 bars, on the newest open {opened:.6g}, high ")
    assert (
        checked(bars, xnys, partial=partial, stored=result.prices)
        .findings["rule"]
        .isin(["dividend in doubt"])
        .all()
    )


def test_the_tolerance_still_widens_and_a_wrong_close_still_costs_the_bar(xnys: Calendar) -> None:
    bars = vendor_bars(WEEK, [10.0, 10, 10, 10, 10])
    bars.loc[0, "open"] = 10.4
    bars.loc[1, ["open", "close"]] = [0, 12]
    bars.loc[2, ["open", "high", "low"]] = [0, 9, 11]
    bars.loc[3, ["open", "close"]] = [0, 10.3]
    result = checked(bars, xnys, partial=True)
    assert result.prices["session"].tolist() == [WEEK[0], WEEK[3], WEEK[4]]
    assert result.prices["high"].tolist() == [10.4, 10.3, 10.1]
    refused = result.findings[result.findings["session"].isin(WEEK[1:3])]
    assert set(refused["rule"]) >= {
        "close lies outside low..high",
        "open: it must be above zero",
        "low lies above high",
    }


def test_a_source_that_may_lack_ranges_keeps_the_bar_and_another_does_not(xnys: Calendar) -> None:
    bars = vendor_bars(WEEK, [10.0, 10, 10, 10, 10])
    bars.loc[1, ["high", "low"]] = np.nan
    bars.loc[2, "open"] = np.nan
    kept, dropped = (checked(bars, xnys, partial=partial) for partial in (True, False))
    assert kept.prices[["open", "high", "low"]].isna().to_numpy().tolist()[1:3] == [
        [False, True, True],
        [True, False, False],
    ]
    assert kept.findings[["session", "rule"]].to_numpy().tolist() == [
        [WEEK[1], "high, low: not given"],
        [WEEK[2], "open: not given"],
    ]
    assert dropped.findings["rule"].tolist() == ["high, low: the value is missing", "open: not given"]
    assert dropped.prices["session"].tolist() == [WEEK[0], *WEEK[2:]]


def test_closes_alone_are_no_finding_and_stay_missing_in_store_history_and_export(
    xnys: Calendar, tmp_path: Path
) -> None:
    bars = vendor_bars(WEEK, [10.0, 11, 12, 13, 14]).assign(
        open=np.nan, high=np.nan, low=np.nan, volume=np.nan
    )
    result = checked(bars, xnys, partial=True)
    assert result.findings.empty
    store = PriceStore(tmp_path / "store")
    assert store.append(result.prices, run="r") == 5
    assert store.append(result.prices, run="r") == 0
    stored = store.read(columns=VALUES)
    assert stored["close"].tolist() == [10, 11, 12, 13, 14]
    for frame in (stored, read_history(store, "A").bars):
        assert frame[["open", "high", "low", "volume"]].isna().all(axis=None)
    export_csv(store, tmp_path / "bars.csv")
    assert pd.read_csv(tmp_path / "bars.csv")[["open", "high", "low", "volume"]].isna().all(axis=None)
    # An open that the source gives later is a new version of the bar.
    later = checked(bars.assign(open=bars["close"]), xnys, partial=True).prices
    assert store.append(later, run="r") == 5
