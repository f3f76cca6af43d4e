"""The trading view: its numbers against other libraries, its sentences, and what it refuses."""

import dataclasses
import math
from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import StationaryBootstrap
from arch.data import nasdaq, sp500
from scipy.stats import kurtosis, skew

from pipeline.config import Config, TradingConfig, digest
from pipeline.errors import NextdayError
from pipeline.market.calendar import calendar
from pipeline.sources.sample import SampleSource
from pipeline.statistics.bootstrap import choose_block_length
from pipeline.statistics.sharpe import deflate
from pipeline.trading.fills import Fills, read_fills
from pipeline.trading.performance import Estimate, count_sessions_a_year, find_drawdown, measure
from pipeline.trading.positions import Track
from pipeline.trading.view import TradingView, view_trading
from tests.conftest import NOW, laid_out, prices_of
from tests.pipeline.trading.test_positions import SESSIONS, rows_of, walk_of

FREE = TradingConfig(cost_bps=0, slippage_bps=0)
RNG = np.random.default_rng(11)


def track_of(net: np.ndarray, gross: np.ndarray | None = None, traded: np.ndarray | None = None) -> Track:
    net = np.asarray(net, float)
    return Track(
        SESSIONS[0],
        SESSIONS[1 : len(net) + 1],
        net if gross is None else gross,
        net,
        np.full_like(net, 2.0) if traded is None else traded,
        np.ones(len(net), int),
    )


def view_of(
    fills: Fills, p_up: np.ndarray, settings: TradingConfig = FREE, trials: int = 1, **arguments: object
) -> TradingView:
    """Return the view of a model that forecasts p_up [session, symbol], with always_up as its baseline."""
    always_up = np.full(np.shape(p_up), 0.53)
    both = pd.concat([rows_of(p_up), rows_of(always_up, model="always_up")])
    return view_trading(
        both,
        fills,
        settings,
        model="gru",
        baseline="always_up",
        trials=trials,
        draws=200,
        **arguments,  # type: ignore[arg-type]
    )


def knowing(fills: Fills, share: float) -> np.ndarray:
    """Return forecasts with the right direction of the day in `share` of the cases."""
    up = fills.intraday_return[1:] > 0
    return np.where(np.random.default_rng(1).random(up.shape) < share, up, ~up) * 0.1 + 0.45


# Numbers.


def of_mean(net: np.ndarray, gross: np.ndarray, traded: np.ndarray) -> float:
    return 1e4 * net.mean()


def of_sharpe(net: np.ndarray, gross: np.ndarray, traded: np.ndarray) -> float:
    return math.sqrt(252) * net.mean() / net.std(ddof=1)


def of_total(net: np.ndarray, gross: np.ndarray, traded: np.ndarray) -> float:
    return np.prod(1 + net) - 1


def of_break_even(net: np.ndarray, gross: np.ndarray, traded: np.ndarray) -> float:
    return 1e4 * gross.sum() / traded.sum()


@pytest.mark.parametrize(
    ("number", "formula"),
    [
        ("mean_bps", of_mean),
        ("sharpe", of_sharpe),
        ("total", of_total),
        ("break_even_bps", of_break_even),
    ],
)
def test_a_number_and_its_interval_are_those_of_arch(
    number: str, formula: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
) -> None:
    gross, traded = RNG.normal(0.0005, 0.01, 300), RNG.uniform(0.5, 2, 300)
    net = gross - 0.0003 * traded
    made = measure(track_of(net, gross, traded), name="gru", year=252, draws=500, seed=3)
    found = getattr(made, number)
    bootstrap = StationaryBootstrap(
        choose_block_length(net), net, gross, traded, seed=np.random.default_rng(3)
    )
    interval = bootstrap.conf_int(lambda *drawn: np.array([formula(*drawn)]), reps=500, method="percentile")
    assert found.value == pytest.approx(formula(net, gross, traded))
    assert (found.low, found.high) == pytest.approx(tuple(interval.ravel()))
    assert (found.sessions, found.trades) == (300, 300)


@pytest.mark.slow
def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    true = math.sqrt(252) * 0.05
    held = []
    for _ in range(200):
        found = measure(track_of(RNG.normal(0.0005, 0.01, 250)), name="gru", year=252, draws=200).sharpe
        held.append(found is not None and found.low <= true <= found.high)
    assert 0.88 < np.mean(held) <= 0.99


def test_at_the_break_even_cost_the_mean_return_is_zero() -> None:
    fills = walk_of(3, sessions=200)
    p_up = knowing(fills, 0.6)
    cost = view_of(fills, p_up).results["model"].break_even_bps
    assert cost
    there = view_of(fills, p_up, TradingConfig(cost_bps=cost.value / 2, slippage_bps=cost.value / 2))
    mean = there.results["model"].mean_bps
    assert mean
    assert mean.value == pytest.approx(0, abs=1e-10)
    again = there.results["model"].break_even_bps
    assert again
    assert again.value == pytest.approx(cost.value)


def test_the_drawdown_is_that_of_a_loop_and_knows_its_days() -> None:
    net = RNG.normal(0, 0.01, 120)
    level = [1.0, *np.cumprod(1 + net)]
    depth, peak, trough = max(
        (1 - level[j] / level[i], i, j) for i in range(len(level)) for j in range(i, len(level))
    )
    found = find_drawdown(track_of(net))
    assert found.depth == pytest.approx(depth)
    assert (found.peak, found.trough) == (SESSIONS[peak], SESSIONS[trough])


def test_a_fall_from_the_first_day_on_begins_at_the_start_and_none_is_zero() -> None:
    assert find_drawdown(track_of([-0.1, -0.1, 0.05])).peak == SESSIONS[0]
    assert find_drawdown(track_of([-0.1, -0.1, 0.05])).depth == pytest.approx(1 - 0.81)
    assert find_drawdown(track_of([-0.1, 0.5])).peak == SESSIONS[0]
    assert find_drawdown(track_of([0.1, 0.1])).depth == 0


def test_a_year_has_as_many_sessions_as_the_calendar_says() -> None:
    assert count_sessions_a_year(pd.bdate_range("2010-01-01", "2018-12-31")) == pytest.approx(
        365.25 * 5 / 7, abs=0.2
    )
    assert count_sessions_a_year(SESSIONS[:50]) == 252


def test_turnover_is_what_is_bought_and_sold() -> None:
    fills = walk_of(3, sessions=50)
    own = view_of(fills, np.full((49, 3), 0.6)).results["model"]
    assert own.turnover == pytest.approx((2 + fills.intraday_return[1:].mean(axis=1)).mean())
    assert own.turnover_a_year == pytest.approx(252 * own.turnover)


def test_the_deflated_ratio_is_of_the_model_after_costs_and_of_the_trials_handed_in() -> None:
    fills = walk_of(3, sessions=200)
    p_up = knowing(fills, 0.6)
    ratios = [0.0, 0.1, 0.05, -0.05, 0.02]
    view = view_of(fills, p_up, TradingConfig(), trials=30, ratios=ratios)
    net = view.curves["model"].pct_change().to_numpy()[1:]
    other = deflate(net, trials=30, ratios=ratios)
    assert view.deflated
    assert other
    assert view.deflated.probability == pytest.approx(other.probability)
    assert (view.deflated.trials, view.deflated.sessions) == (30, 199)
    assert view.deflated.skewness == pytest.approx(skew(net))
    assert view.deflated.kurtosis == pytest.approx(kurtosis(net, fisher=False))


# Comparisons.


def test_a_model_that_is_its_baseline_is_no_better_by_nothing() -> None:
    view = view_of(walk_of(3, sessions=100), np.full((99, 3), 0.6), TradingConfig())
    assert view.excess_bps
    assert (view.excess_bps.low, view.excess_bps.high) == (0, 0)
    assert view.results["model"].net_return == view.results["baseline"].net_return


def test_a_model_that_knows_the_day_is_ahead_of_its_baseline_by_the_paired_mean() -> None:
    fills = walk_of(3, sessions=200)
    view = view_of(fills, knowing(fills, 0.7))
    own, other = (view.results[role].mean_bps for role in ("model", "baseline"))  # type: ignore[index]
    assert view.excess_bps
    assert own
    assert other
    assert view.excess_bps.value == pytest.approx(own.value - other.value)
    assert view.excess_bps.low > 0


def test_what_only_knows_the_night_earns_nothing_that_can_be_had() -> None:
    fills = walk_of(5, sessions=300)
    night = fills.open[1:] / fills.previous_close[1:] > 1
    view = view_of(fills, 0.45 + 0.1 * night)
    within, across = view.results["model"].mean_bps, view.results["unreachable"].mean_bps
    assert within
    assert across
    assert across.low > 0
    assert within.low < 0
    assert "not reachable" in view.results["unreachable"].name


def test_the_curves_begin_at_one_the_session_before_and_end_at_what_was_made() -> None:
    view = view_of(walk_of(3, sessions=100), np.full((99, 3), 0.4), TradingConfig())
    assert list(view.curves) == ["session", "model", "baseline", "held", "unreachable"]
    assert (view.curves.iloc[0, 1:] == 1).all()
    assert view.curves["session"].tolist() == SESSIONS[:100].tolist()
    for role, result in view.results.items():
        assert view.curves[role].iloc[-1] == pytest.approx(1 + result.net_return)
    assert view.results["held"].break_even_bps is None


# Words.


def test_the_sentence_gives_costs_break_even_and_buy_and_hold() -> None:
    fills = walk_of(3, sessions=200)
    view = view_of(fills, knowing(fills, 0.62), TradingConfig(cost_bps=2, slippage_bps=3))
    own, held = view.results["model"], view.results["held"]
    assert own.break_even_bps
    assert view.sentence.startswith("Net of costs of 5 basis points per side, the rule ")
    assert f"breaks even at {own.break_even_bps.value:.1f} basis points per side" in view.sentence
    assert f"{abs(own.net_return):.1%} in 199 sessions (597 trades; 95% interval " in view.sentence
    assert "always_up, traded alike, " in view.sentence
    assert f"{abs(held.net_return):.1%}." in view.sentence
    assert ("zero included" in view.sentence) == (
        own.total is not None and own.total.low <= 0 <= own.total.high
    )


def test_a_rule_that_loses_before_costs_has_no_break_even_cost() -> None:
    fills = walk_of(3, sessions=200)
    assert "it loses before any costs" in view_of(fills, knowing(fills, 0.3)).sentence


def test_too_few_sessions_have_no_interval_no_ratio_and_say_so() -> None:
    view = view_of(walk_of(3, sessions=8), np.full((7, 3), 0.6))
    own = view.results["model"]
    assert (own.total, own.sharpe, own.mean_bps, own.break_even_bps) == (None, None, None, None)
    assert "too few sessions for an interval, 10 are needed" in view.sentence


def test_a_symbol_with_stale_opens_is_left_out_by_name_with_its_share() -> None:
    fills = walk_of(3, sessions=100)
    fills.open[:, 1] = fills.previous_close[:, 1]
    view = view_of(fills, np.full((99, 3), 0.6))
    assert [each.symbol for each in view.stale] == ["S1"]
    assert view.stale[0].share == 1
    # The first open has no close before it, and the second is known to be stale only after its day.
    assert view.left_out.startswith(
        "Stale opens were not traded: 1 of 3 symbols, in 98 of 297 forecasts (33.0%): S1 (98 of 99 sessions, "
        f"{SESSIONS[2]:%Y-%m-%d} to {SESSIONS[99]:%Y-%m-%d}, up to 100.0% stale). No order"
    )
    assert view.results["model"].trades == 2 * 99 + 1


def test_many_that_are_left_out_are_counted_and_the_longest_out_named() -> None:
    fills = walk_of(3, sessions=100, symbols=12)
    fills.open[30:, 1:11] = fills.previous_close[30:, 1:11]
    fills.open[:, 11] = fills.previous_close[:, 11]
    view = view_of(fills, np.full((99, 12), 0.6))
    assert len(view.stale) == 11
    assert "11 of 12 symbols" in view.left_out
    assert "): S11 (98 of 99 sessions, " in view.left_out
    assert "stale), S1 (" in view.left_out
    assert " and 3 more. No order" in view.left_out


def test_where_nothing_can_be_traded_the_view_says_why() -> None:
    fills = walk_of(3, sessions=100)
    fills.open[:] = fills.previous_close
    rows = rows_of(np.full((50, 3), 0.6), first=50)
    both = pd.concat([rows, rows.assign(model="always_up")])
    view = view_trading(both, fills, FREE, model="gru", baseline="always_up", trials=1)
    assert view.sentence.startswith(
        "Nothing could be traded: stale opens were not traded: 3 of 3 symbols, in 150 of 150 forecasts (100.0%): S0 ("
    )
    assert view.results == {}
    assert view.deflated is None
    assert view.curves.empty


def test_forecasts_of_future_sessions_are_reported_as_not_yet_tradable() -> None:
    rows = rows_of(np.full((1, 3), 0.6), first=5)
    both = pd.concat([rows, rows.assign(model="always_up")])
    view = view_trading(both, walk_of(3, sessions=5), FREE, model="gru", baseline="always_up", trials=1)
    assert view.sentence == "Nothing could be traded: no forecast has a target session with prices yet."


def test_a_threshold_that_nothing_reaches_trades_nothing_and_is_reported() -> None:
    view = view_of(walk_of(3, sessions=100), np.full((99, 3), 0.52), TradingConfig(threshold=0.2))
    assert view.sentence == "Nothing was traded in 99 sessions: no forecast reached the threshold."
    assert view.results["model"].sharpe is None
    assert view.results["model"].net_return == 0
    assert view.deflated is None


# What is refused.


def test_a_number_without_n_or_interval_cannot_be_made() -> None:
    whole = Estimate(1.0, 0.5, 1.5, 100, 100)
    for missing in ({"low": math.nan}, {"high": 0.0}, {"sessions": 9}, {"value": math.nan}, {"trades": -1}):
        with pytest.raises(NextdayError, match="without n and an interval"):
            dataclasses.replace(whole, **missing)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Estimate(1.0)  # type: ignore[call-arg]


def test_missing_models_and_models_of_other_sessions_are_refused() -> None:
    rows = rows_of(np.full((50, 3), 0.6))
    other = rows_of(np.full((49, 3), 0.6), model="always_up")
    ask = {"model": "gru", "baseline": "always_up", "trials": 1}
    with pytest.raises(NextdayError, match="no forecast by 'always_up'"):
        view_trading(rows, walk_of(3), FREE, **ask)  # type: ignore[arg-type]
    with pytest.raises(NextdayError, match="same sessions"):
        view_trading(pd.concat([rows, other]), walk_of(3), FREE, **ask)  # type: ignore[arg-type]


# Settings.


def test_what_the_view_assumes_changes_no_digest_of_forecasts() -> None:
    dear = Config(trading=TradingConfig(threshold=0.1, cost_bps=9, slippage_bps=9))
    assert digest(dear.resolved()) == digest(Config().resolved())
    assert "trading" not in Config().resolved()
    assert dear.trading.bps_a_side == 18


# The sample.


@pytest.fixture(scope="module")
def sample() -> Fills:
    source, last = SampleSource(), pd.Timestamp("2018-12-31")
    days = calendar("XNYS", date(1999, 1, 1), NOW)
    bars = {name: source.fetch(name, days.sessions[0], last, NOW).bars for name in source.symbols()}
    sessions = days.sessions[days.sessions <= last]
    return read_fills(laid_out(prices_of(bars, days), sessions, source.symbols()))  # type: ignore[arg-type]


def always_up_in_the_sample(sample: Fills, years: str) -> TradingView:
    """Return the view of both indices, always up, in some years."""
    days = sample.sessions.get_indexer(sample.sessions[sample.sessions.slice_indexer(*years.split("-"))])
    rows = pd.DataFrame(
        {
            "symbol": np.repeat(sample.symbols, len(days)),
            "as_of": np.tile(sample.sessions[days - 1], 2),
            "target_session": np.tile(sample.sessions[days], 2),
            "horizon": 1,
            "p_up": 0.53,
        }
    )
    both = pd.concat([rows.assign(model=name) for name in ("gru", "always_up")])
    return view_trading(both, sample, FREE, model="gru", baseline="always_up", trials=1, draws=50)


def test_of_the_sample_only_the_index_with_opens_of_its_own_is_traded_before_2006(sample: Fills) -> None:
    view = always_up_in_the_sample(sample, "2004-2005")
    (stale,) = view.stale
    assert (stale.symbol, stale.sessions, stale.forecasts) == ("^GSPC", 504, 504)
    assert (stale.first, stale.last) == (pd.Timestamp("2004-01-02"), pd.Timestamp("2005-12-30"))
    known = sp500.load()
    repeats = (known["Open"] == known["Close"].shift()).rolling(252).mean().shift()
    assert stale.share == pytest.approx(repeats.loc["2004":"2005"].max())  # type: ignore[misc]
    table = nasdaq.load()
    test, before = table.loc["2004":"2005"], table.loc[:"2003"]  # type: ignore[misc]
    assert view.results["model"].net_return == pytest.approx((test["Close"] / test["Open"]).prod() - 1)
    assert view.results["held"].net_return == pytest.approx(
        test["Adj Close"].iloc[-1] / before["Adj Close"].iloc[-1] - 1
    )
    assert view.results["unreachable"].net_return == pytest.approx(view.results["held"].net_return)


def test_both_indices_are_traded_once_both_have_opens_of_their_own(sample: Fills) -> None:
    view = always_up_in_the_sample(sample, "2016-2018")
    assert (view.stale, view.left_out) == ((), "")
    assert view.results["model"].trades == 2 * view.results["model"].sessions
