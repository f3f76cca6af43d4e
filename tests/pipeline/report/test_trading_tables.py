"""The trading view as tables: every cell agrees with the numbers, and no estimate lacks its interval."""

import numpy as np
import pandas as pd
import pytest

from pipeline.config import TradingConfig
from pipeline.report.trading_tables import describe_deflated_sharpe, list_numbers, trading_cells
from pipeline.trading.view import view_trading
from tests.pipeline.trading.test_positions import rows_of, walk_of
from tests.pipeline.trading.test_view import FREE, knowing, view_of

FILLS = walk_of(3, sessions=200)
VIEW = view_of(FILLS, knowing(FILLS, 0.6), TradingConfig(), trials=12)


def test_each_rule_has_a_row_whose_cells_are_its_numbers() -> None:
    cells = trading_cells(VIEW)
    assert [row["rule"] for row in cells] == [result.name for result in VIEW.results.values()]
    own, row = VIEW.results["model"], cells[0]
    assert own.sharpe
    assert own.break_even_bps
    assert row["net return"] == f"{own.net_return:+.1%}"
    assert (
        row["annualized Sharpe ratio"]
        == f"{own.sharpe.value:.2f} ({own.sharpe.low:.2f} to {own.sharpe.high:.2f})"
    )
    assert row["break-even, bp per side"].startswith(f"{own.break_even_bps.value:.1f} (")
    assert row["maximum drawdown"].startswith(f"{own.drawdown.depth:.1%} ({own.drawdown.peak:%Y-%m-%d} to ")
    assert (row["sessions"], row["trades"]) == ("199", "597")
    assert cells[2]["break-even, bp per side"] == "– (not defined)"


def test_too_few_sessions_have_dashes_and_the_reason() -> None:
    row = trading_cells(view_of(walk_of(3, sessions=8), np.full((7, 3), 0.6)))[0]
    assert row["95% interval"] == row["annualized Sharpe ratio"] == "– (under 10 sessions)"


def test_the_deflated_ratio_is_described_with_its_trials_and_assumptions() -> None:
    assert VIEW.deflated
    said = describe_deflated_sharpe(VIEW.deflated)
    assert said.startswith(f"Deflated Sharpe ratio {VIEW.deflated.probability:.1%}: ")
    assert "(12 settings tried, the variance of their ratios assumed" in said
    assert f"; {VIEW.deflated.above_zero:.1%} if nothing else had been tried." in said
    known = view_of(FILLS, knowing(FILLS, 0.6), trials=12, ratios=[0.1, 0.0, 0.05, 0.2, -0.1, 0.0])
    assert (
        "(12 settings tried, the variance of their ratios estimated from 6 of them; "
        in describe_deflated_sharpe(known.deflated)
    )
    for view, ratios in ((VIEW, 0), (known, 6)):
        numbers = list_numbers(view).set_index("metric")["value"]
        assert (numbers["settings_tried"], numbers["settings_sharpe_measured"]) == (12, ratios)
        assert view.deflated
        assert numbers["settings_sharpe_variance"] == view.deflated.variance
    assert describe_deflated_sharpe(None) == ""


def test_the_csv_holds_every_number_with_n_and_the_estimates_with_an_interval() -> None:
    numbers = list_numbers(VIEW)
    assert not numbers.duplicated(["role", "metric"]).any()
    assert (numbers[["sessions", "trades"]] >= 1).all(axis=None)
    estimates = numbers[numbers["metric"].isin(["total_return", "mean_bps", "sharpe", "break_even_bps"])]
    assert len(estimates) == 4 * 4 - 1
    assert estimates[["low", "high"]].notna().all(axis=None)
    own = numbers[numbers["role"] == "model"].set_index("metric")["value"]
    assert VIEW.deflated
    assert own["deflated_sharpe"] == VIEW.deflated.probability
    assert own["total_return"] == pytest.approx(VIEW.results["model"].net_return)
    assert {"beside_baseline_bps", "turnover", "turnover_a_year", "max_drawdown"} <= set(own.index)


def test_a_view_without_trades_has_no_rows() -> None:
    fills = walk_of(3, sessions=100)
    fills.open[:] = fills.previous_close
    rows = rows_of(np.full((50, 3), 0.6), first=50)
    both = pd.concat([rows, rows.assign(model="always_up")])
    view = view_trading(both, fills, FREE, model="gru", baseline="always_up", trials=1)
    assert trading_cells(view) == []
    assert list_numbers(view).empty
