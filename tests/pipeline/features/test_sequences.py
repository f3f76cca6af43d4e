from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.features.columns import leave_one_out_mean
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel
from pipeline.features.sequences import Sequences, blank_dead_zone, build_sequences
from pipeline.features.targets import part_returns
from pipeline.market.calendar import Calendar, calendar
from pipeline.market.universe import Universe
from pipeline.outputs import Output
from pipeline.prices.ingest.quality import check
from pipeline.sources.files import FilesSource
from tests.conftest import NOW, laid_out, prices_of, random_bars, vendor_bars
from tests.support.made_sequences import directions


def members(symbols: list[str], **spans: tuple[str | None, str | None]) -> Universe:
    first = [spans.get(symbol, (None, None))[0] for symbol in symbols]
    last = [spans.get(symbol, (None, None))[1] for symbol in symbols]
    entries = pd.DataFrame({"symbol": symbols, "first": pd.to_datetime(first), "last": pd.to_datetime(last)})
    return Universe("u", entries.astype({"first": "datetime64[us]", "last": "datetime64[us]"}))


def panel_of(xnys: Calendar, **closes: list[float]) -> Panel:
    sessions = xnys.sessions[: max(map(len, closes.values()))]
    bars = {s: vendor_bars(sessions[~np.isnan(c)], np.array(c)[~np.isnan(c)]) for s, c in closes.items()}
    return laid_out(prices_of(bars, xnys), sessions, sorted(closes))


def labels(panel: Panel, universe: Universe | None = None) -> np.ndarray:
    made = build_sequences(
        panel, FEATURE_SETS["default16"], universe or members(panel.symbols), directions(1)
    )
    return made.y[:, :, 0]


def test_a_label_is_the_sign_of_the_next_total_return(xnys: Calendar) -> None:
    assert labels(panel_of(xnys, A=[10, 11, 10.5, 12]))[0].tolist()[:3] == [1, 0, 1]


def test_sequences_hold_the_columns_of_the_panel_by_symbol(xnys: Calendar) -> None:
    closes = {symbol: [*range(start, start + 90)] for symbol, start in (("A", 10), ("B", 20), ("C", 40))}
    panel, features = panel_of(xnys, **closes), FEATURE_SETS["default16"]
    made = build_sequences(panel, features, members(panel.symbols), directions(1, 5))
    columns = features.compute(panel, panel.has_bar)
    assert panel.close.shape == (90, 3)
    assert (made.x.shape, made.mask.shape, made.y.shape) == ((3, 90, 16), (3, 90), (3, 90, 2))
    assert made.mask[:, -1].all()
    for number, name in enumerate(features.columns):
        assert made.x[:, -1, number].tolist() == columns[name].iloc[-1].astype("float32").tolist()


def test_the_last_session_has_no_label_yet(xnys: Calendar) -> None:
    assert np.isnan(labels(panel_of(xnys, A=[10, 11, 12]))[0, -1])


def test_an_unchanged_close_has_no_label(xnys: Calendar) -> None:
    assert np.isnan(labels(panel_of(xnys, A=[10, 11, 11, 12]))[0, 1])


def test_a_missing_session_gives_no_label_on_either_side(xnys: Calendar) -> None:
    y = labels(panel_of(xnys, A=[10, 11, np.nan, 12, 13], B=[10, 11, 12, 13, 14]))
    assert np.isnan(y[0]).tolist() == [False, True, True, False, True]


def test_a_share_that_did_not_trade_has_no_label_and_an_index_has(xnys: Calendar) -> None:
    sessions = xnys.sessions[:3]
    bars = {s: vendor_bars(sessions, np.array([10.0, 11, 12]), volume=[5.0, 0, 5]) for s in ("A", "^A")}
    y = labels(laid_out(prices_of(bars, xnys), sessions, ["A", "^A"]))
    assert np.isnan(y[0, 0])
    assert y[1, 0] == 1


def test_a_dividend_turns_a_lower_close_into_a_rise(xnys: Calendar) -> None:
    sessions = xnys.sessions[:2]
    bars = vendor_bars(sessions, np.array([100.0, 99.5]), dividend=[0, 1.0])
    panel = laid_out(prices_of({"A": bars}, xnys), sessions, ["A"])
    assert part_returns(panel, Output("direction", 1))[0, 0] == pytest.approx(99.5 / 99 - 1)
    assert labels(panel)[0, 0] == 1


def test_a_longer_horizon_looks_farther(xnys: Calendar) -> None:
    returns = part_returns(panel_of(xnys, A=[10, 11, 12, 13]), Output("direction", 2))[:, 0]
    assert returns[:2] == pytest.approx([0.2, 13 / 11 - 1])
    assert np.isnan(returns[2:]).all()


def test_only_members_are_unmasked(xnys: Calendar) -> None:
    sessions = xnys.sessions[:120]
    bars = {s: random_bars(sessions, k) for k, s in enumerate("AB")}
    panel = laid_out(prices_of(bars, xnys), sessions, ["A", "B"])
    universe = members(["A", "B"], B=(str(sessions[100].date()), None))
    mask = build_sequences(panel, FEATURE_SETS["default16"], universe, directions(1)).mask
    assert not mask[1, :100].any()
    assert mask[:, 100:].all()


def test_a_mean_of_the_others_leaves_the_symbol_itself_out() -> None:
    values = pd.DataFrame([[1.0, 2.0, 6.0], [1.0, np.nan, 3.0]])
    mean = leave_one_out_mean(values, np.ones((2, 3), bool)).to_numpy()
    assert mean[0].tolist() == [4, 3.5, 1.5]
    assert mean[1, [0, 2]].tolist() == [3, 1]
    assert np.isnan(mean[1, 1])


def test_a_mean_of_too_few_others_is_missing() -> None:
    values = pd.DataFrame([[1.0, 2.0, np.nan, np.nan]])
    assert np.isnan(leave_one_out_mean(values, np.ones((1, 4), bool)).to_numpy()).all()
    belongs = np.array([[True, True, False, False]])
    assert leave_one_out_mean(values, belongs).to_numpy()[0, :2].tolist() == [2, 1]


def test_an_infinite_value_is_none_for_the_others() -> None:
    values = pd.DataFrame([[1.0, 2.0, 6.0, -np.inf]])
    mean = leave_one_out_mean(values, np.ones((1, 4), bool)).to_numpy()[0]
    assert mean[:3].tolist() == [4, 3.5, 1.5]
    assert np.isnan(mean[3])


def test_a_universe_of_one_still_has_rows(xnys: Calendar) -> None:
    sessions = xnys.sessions[:120]
    panel = laid_out(prices_of({"A": random_bars(sessions, 1)}, xnys), sessions, ["A"])
    assert build_sequences(panel, FEATURE_SETS["default16"], members(["A"]), directions(1)).mask[0, 64:].all()


def test_one_missing_bar_costs_two_rows(xnys: Calendar) -> None:
    sessions, symbols = xnys.sessions[:160], ["A", "B"]
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(symbols)}
    whole = build_sequences(
        laid_out(prices_of(bars, xnys), sessions, symbols),
        FEATURE_SETS["default16"],
        members(symbols),
        directions(1),
    )
    bars["A"] = bars["A"].drop(index=80)
    made = build_sequences(
        laid_out(prices_of(bars, xnys), sessions, symbols),
        FEATURE_SETS["default16"],
        members(symbols),
        directions(1),
    )
    # A new listing waits for its longest return; the hole takes itself and the return after it.
    assert np.flatnonzero(whole.mask[0]).tolist() == list(range(63, 160))
    assert np.flatnonzero(whole.mask[0] & ~made.mask[0]).tolist() == [80, 81]
    # The other symbol lacks the mean of its universe on these two sessions alone.
    assert np.flatnonzero(whole.mask[1] & ~made.mask[1]).tolist() == [80, 81]


def test_a_return_over_a_hole_starts_from_the_last_known_close(xnys: Calendar) -> None:
    sessions = xnys.sessions[:160]
    bars = random_bars(sessions, 0)
    close = bars["close"].to_numpy()
    panel = laid_out(prices_of({"A": bars.drop(index=80)}, xnys), sessions, ["A"])
    columns = FEATURE_SETS["default16"].compute(panel, np.ones((160, 1), bool))
    assert columns["log_return_21"].loc[101, 0] == pytest.approx(np.log(close[101] / close[79]))
    assert columns["log_return_5"].loc[86, 0] == pytest.approx(np.log(close[86] / close[81]))
    assert columns["log_return_1"][0].isna().to_numpy().nonzero()[0].tolist() == [0, 80, 81]
    long_ago = laid_out(prices_of({"A": bars.drop(index=range(80, 86))}, xnys), sessions, ["A"])
    after = FEATURE_SETS["default16"].compute(long_ago, np.ones((160, 1), bool))["log_return_21"][0]
    assert np.isnan(after[106])
    assert not np.isnan(after[105])


def test_prices_that_never_change_are_masked(xnys: Calendar) -> None:
    panel = panel_of(xnys, A=[10.0] * 120, B=list(np.linspace(10, 20, 120) + np.sin(np.arange(120))))
    assert (
        not build_sequences(panel, FEATURE_SETS["default16"], members(["A", "B"]), directions(1))
        .mask[0]
        .any()
    )


def test_a_dead_zone_masks_small_moves_in_the_given_rows() -> None:
    y = np.array([[[1.0], [0.0], [1.0], [1.0]]], np.float32)
    returns = np.array([[[0.002], [-0.02], [0.03], [0.002]]])
    blanked = blank_dead_zone(y, returns, (-0.005, 0.0055), range(0, 3))
    assert np.isnan(blanked[0, :, 0]).tolist() == [True, False, False, False]


def test_the_ends_of_a_dead_zone_belong_to_it() -> None:
    returns = np.array([[[-0.005], [0.0055], [-0.0051], [0.0056]]])
    blanked = blank_dead_zone(np.ones((1, 4, 1), np.float32), returns, (-0.005, 0.0055), range(4))
    assert np.isnan(blanked[0, :, 0]).tolist() == [True, True, False, False]


def test_what_is_masked_is_zero(xnys: Calendar) -> None:
    panel = panel_of(xnys, A=[*range(10, 100)])
    made = build_sequences(panel, FEATURE_SETS["default16"], members(panel.symbols), directions(1))
    assert 0 < made.mask.sum() < made.mask.size
    assert (made.x[~made.mask] == 0).all()


def test_sequences_are_cut_before_and_after_a_session(xnys: Calendar) -> None:
    panel = panel_of(xnys, A=[*range(10, 100)])
    made = build_sequences(panel, FEATURE_SETS["default16"], members(panel.symbols), directions(1, 5))
    late = made.since(made.sessions[80])
    assert late.sessions[0] == made.sessions[80]
    assert late.x.shape[1] == late.mask.shape[1] == late.y.shape[1] == len(late.sessions) == 10
    early = made.through(made.sessions[2])  # the farther label of its first session is not known yet either
    assert len(early.sessions) == 3
    assert np.isnan(early.y[0]).tolist() == [[False, True], [False, True], [True, True]]


@pytest.fixture(scope="module")
def acl18(datasets: Path) -> tuple[Panel, Sequences]:
    source = FilesSource(datasets / "acl18" / "prices.parquet", adjustment="auto", historical=True)
    days = calendar("XNYS", date(2012, 1, 1), NOW)
    end = pd.Timestamp("2015-12-31")
    answers = [source.fetch(s, pd.Timestamp("2012-01-01"), end, NOW) for s in source.symbols()]
    prices = check(answers, days, end, source="files", historical=True).prices
    sessions = days.sessions_between(prices["session"].min(), end)
    panel = laid_out(prices, sessions, source.symbols())
    return panel, build_sequences(panel, FEATURE_SETS["alstm11"], members(source.symbols()), directions(1))


def test_the_published_labels_come_out(datasets: Path, acl18: tuple[Panel, Sequences]) -> None:
    panel, _ = acl18
    published = pd.read_csv(datasets / "acl18" / "labels.csv.gz", parse_dates=["date"])
    row = panel.sessions.get_indexer(pd.DatetimeIndex(published["date"])) - 1
    column = pd.Index(panel.symbols).get_indexer(pd.Index(published["symbol"]))
    change = part_returns(panel, Output("direction", 1))[row, column]
    ours = np.select([change > 0.0055, change < -0.005], [1, 0], -1)
    # One published row stands on a session without volume, where we know no outcome.
    assert (ours != published["label"]).sum() == np.isnan(change).sum() == 1


def test_the_eleven_columns_are_those_of_the_paper(datasets: Path, acl18: tuple[Panel, Sequences]) -> None:
    _, made = acl18
    raw = pd.read_parquet(datasets / "acl18" / "prices.parquet")
    raw = raw[raw["symbol"] == "AAPL"].sort_values("date").reset_index(drop=True)
    adjusted = raw["adj_close"]
    wanted = {
        "open_to_close": raw["open"] / raw["close"],
        "close_change": raw["close"] / raw["close"].shift(),
        "adj_close_change": adjusted / adjusted.shift(),
        "mean_5_to_adj_close": adjusted.rolling(5).mean() / adjusted,
        "mean_30_to_adj_close": adjusted.rolling(30).mean() / adjusted,
    }
    symbol = made.symbols.index("AAPL")
    for name, ratio in wanted.items():
        ours = made.x[symbol, 30:, made.features.index(name)]
        np.testing.assert_allclose(ours, (ratio[30:] - 1) * 100, atol=5e-4)
