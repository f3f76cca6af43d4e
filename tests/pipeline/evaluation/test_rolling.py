"""The rolling hit rate and its interval."""

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.rolling import ROLLING, roll_hit_rate, roll_saved
from pipeline.statistics.significance import long_run_variance, newey_west_lag
from tests.pipeline.report.test_files import DAYS, told


def test_with_one_symbol_the_rolling_interval_is_that_of_a_mean() -> None:
    rows = told("gru", 5).head(len(DAYS))
    hits = ((rows["p_up"] > 0.5) == (rows["outcome"] == 1)).astype(float).rolling(ROLLING)
    table = roll_hit_rate(rows, rows)
    assert len(table) == len(DAYS) - ROLLING + 1
    np.testing.assert_allclose(table["rate"], hits.mean().dropna())
    np.testing.assert_allclose(table["high"] - table["rate"], 1.96 * hits.sem().dropna(), atol=1e-9)
    np.testing.assert_allclose(table["baseline_rate"], table["rate"])


def test_symbols_that_move_as_one_do_not_narrow_the_rolling_interval() -> None:
    rows = told("gru", 5).head(len(DAYS))
    twins = pd.concat([rows, rows.assign(symbol="TWIN"), rows.assign(symbol="THIRD")])
    pd.testing.assert_frame_equal(roll_hit_rate(twins, twins), roll_hit_rate(rows, rows))


def test_what_is_saved_is_a_running_sum_with_the_reach_of_chance_and_a_rolling_mean() -> None:
    """By hand: one row a session saves log(0.6 / 0.5) where it is right and log(0.4 / 0.5) where it is wrong."""
    days = pd.bdate_range("2018-01-01", periods=150)
    right = np.random.default_rng(0).random(150) < 0.55
    rows = pd.DataFrame({"symbol": "A", "as_of": days, "target_session": days + pd.Timedelta(days=1)})
    rows = rows.assign(horizon=1, target="direction", outcome=right.astype(float))
    both = pd.concat([rows.assign(model="gru", p_up=0.6), rows.assign(model="base_rate", p_up=0.5)])
    table = roll_saved(both, model="gru", baseline="base_rate")
    saved = np.where(right, np.log(1.2), np.log(0.8))
    np.testing.assert_allclose(table["saved"], saved)
    np.testing.assert_allclose(table["total"], saved.cumsum())
    variance = long_run_variance(saved, newey_west_lag(150))
    np.testing.assert_allclose(table["chance"], 1.96 * np.sqrt(variance * np.arange(1, 151)))
    assert table["mean"].notna().sum() == 150 - ROLLING + 1
    last = saved[-ROLLING:]
    half = 1.96 * np.sqrt(long_run_variance(last, newey_west_lag(ROLLING)) / ROLLING)
    assert table[["mean", "low", "high"]].iloc[-1].tolist() == pytest.approx(
        [last.mean(), last.mean() - half, last.mean() + half]
    )


def test_in_95_of_100_records_without_skill_the_sum_ends_within_the_reach_of_chance() -> None:
    rng, inside = np.random.default_rng(1), 0
    days = pd.bdate_range("2018-01-01", periods=120)
    for _ in range(100):
        outcome = (rng.random(120) < 0.5).astype(float)
        rows = pd.DataFrame(
            {"symbol": "A", "as_of": days, "target_session": days, "horizon": 1, "outcome": outcome}
        )
        noise = rows.assign(model="gru", p_up=np.where(rng.random(120) < 0.5, 0.505, 0.495))
        table = roll_saved(
            pd.concat([noise, rows.assign(model="base_rate", p_up=0.5)]), model="gru", baseline="base_rate"
        )
        inside += abs(table["total"].iloc[-1]) <= table["chance"].iloc[-1]
    assert 90 <= inside <= 99


def test_with_overlapping_outcomes_a_short_window_has_no_band() -> None:
    days = pd.bdate_range("2018-01-01", periods=250)
    outcome = (np.random.default_rng(0).random(250) < 0.5).astype(float)
    rows = pd.DataFrame(
        {"symbol": "A", "as_of": days, "target_session": days, "horizon": 20, "outcome": outcome}
    )
    both = pd.concat([rows.assign(model="gru", p_up=0.52), rows.assign(model="base_rate", p_up=0.5)])
    table = roll_saved(both, model="gru", baseline="base_rate")
    assert table["chance"].notna().all()
    assert table["low"].isna().all()
    assert table["mean"].notna().any()
