"""The returns behind each target: with a pencil, with stale opens, and against the median of the members."""

import numpy as np
import pandas as pd
import pytest

from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.overnight import with_overnight
from pipeline.features.panel import Panel
from pipeline.features.sequences import Sequences, build_sequences
from pipeline.features.targets import (
    MIN_MEMBERS,
    OPENS_SEEN,
    label_returns,
    median_of,
    part_returns,
    reach_of_targets,
)
from pipeline.market.calendar import Calendar
from pipeline.market.corporate_actions import adjusted_close
from pipeline.outputs import TARGETS, Output
from tests.conftest import laid_out, prices_of, random_bars
from tests.pipeline.features.test_sequences import members

SYMBOLS = ("A", "B", "C", "D", "E", "F", "G")


def market(
    xnys: Calendar, sessions: int = 120, opens: bool = True, symbols: tuple[str, ...] = SYMBOLS
) -> Panel:
    days, bars = xnys.sessions[:120], {}
    for seed, symbol in enumerate(symbols):
        rows = random_bars(days, seed)
        jump = np.random.default_rng(100 + seed).uniform(0.2, 0.8, len(rows))
        real = rows["low"] + jump * (rows["high"] - rows["low"])
        bars[symbol] = rows.assign(open=real if opens else np.nan).iloc[:sessions]
    return laid_out(prices_of(bars, xnys), days[:sessions], list(symbols))


def made(panel: Panel, *targets: str) -> Sequences:
    outputs = tuple(Output(target, 1) for target in targets)
    return build_sequences(panel, FEATURE_SETS["closes"], members([*panel.symbols]), outputs)


def by_hand(xnys: Calendar, opens: list[float], closes: list[float], **actions: list[float]) -> Panel:
    """Return the panel of one symbol, from prices as traded."""
    nothing = {"dividend": [0.0] * len(closes), "split": [1.0] * len(closes)}
    known = {name: np.array(values, float)[:, None] for name, values in (nothing | actions).items()}
    traded = {"open": np.array(opens, float)[:, None], "close": np.array(closes, float)[:, None]}
    shares = np.cumprod(known["split"], axis=0)
    low, high = np.minimum(*traded.values()), np.maximum(*traded.values())
    return Panel(
        xnys.sessions[: len(closes)],
        ["A"],
        open=traded["open"] * shares,
        high=high * shares,
        low=low * shares,
        close=traded["close"] * shares,
        volume=np.ones_like(low),
        adj_close=adjusted_close(traded["close"], known["dividend"], known["split"]),
        last_close=traded["close"],
        is_index=np.array([False]),
    )


def test_the_parts_of_a_day_by_hand(xnys: Calendar) -> None:
    panel = by_hand(xnys, [10, 11, 12], [10.5, 12, 11])
    night, day, whole = (
        part_returns(panel, Output(t, 1))[:, 0] for t in ("overnight", "intraday", "direction")
    )
    assert night[0] == pytest.approx(11 / 10.5 - 1)
    assert np.isnan([night[1], day[1]]).all()  # an open equal to the close before it is none
    assert day[0] == pytest.approx(12 / 11 - 1)
    assert whole[:2] == pytest.approx([12 / 10.5 - 1, 11 / 12 - 1])
    assert np.isnan([night[2], day[2], whole[2]]).all()


def test_a_dividend_belongs_to_the_night_and_a_split_moves_nothing(xnys: Calendar) -> None:
    paid = by_hand(xnys, [10, 9.9, 5], [10, 10, 5.2], dividend=[0, 0.5, 0], split=[1, 1, 2])
    night, day, whole = (
        part_returns(paid, Output(t, 1))[:, 0] for t in ("overnight", "intraday", "direction")
    )
    assert night[0] == pytest.approx(9.9 / 9.5 - 1)
    assert day[0] == pytest.approx(10 / 9.9 - 1)
    assert (1 + night[0]) * (1 + day[0]) == pytest.approx(1 + whole[0])
    assert np.isnan(night[1])  # 5 after a split of 2:1 repeats the close of 10
    assert whole[1] == pytest.approx(5.2 / 5 - 1)


def test_night_and_day_make_the_whole_day(xnys: Calendar) -> None:
    panel = market(xnys)
    night, day, whole = (part_returns(panel, Output(t, 1)) for t in ("overnight", "intraday", "direction"))
    known = np.isfinite(night) & np.isfinite(day)
    assert known[:-1].mean() > 0.99
    assert ((1 + night) * (1 + day))[known] == pytest.approx((1 + whole)[known], rel=1e-12)


@pytest.mark.parametrize("target", ["relative", "overnight_relative", "intraday_relative"])
def test_a_relative_label_compares_with_the_median_of_the_members(xnys: Calendar, target: str) -> None:
    panel = market(xnys)
    belongs = np.ones(panel.close.shape, bool)
    belongs[:, 0] = False  # A is no member: its return counts in no median
    returns = part_returns(panel, Output(target, 1))
    relative = label_returns(panel, Output(target, 1), belongs)
    for row in (3, 50, 118):
        assert relative[row] == pytest.approx(returns[row] - np.median(returns[row, 1:]))
    assert np.isnan(relative[-1]).all()


def test_too_few_members_have_no_median(xnys: Calendar) -> None:
    panel = market(xnys)
    returns = part_returns(panel, Output("direction", 1))
    belongs = np.zeros(panel.close.shape, bool)
    belongs[:, : MIN_MEMBERS - 1] = True
    median, known = median_of(returns, belongs)
    assert np.isnan(median).all()
    assert known[0] == MIN_MEMBERS - 1
    belongs[:, MIN_MEMBERS - 1] = True
    median, known = median_of(returns, belongs)
    assert median[:-1] == pytest.approx(np.median(returns[:-1, :MIN_MEMBERS], axis=1))
    assert known[0] == MIN_MEMBERS
    sequences = made(market(xnys, symbols=SYMBOLS[:4]), "direction", "relative")
    assert not sequences.asked[..., 1].any()
    assert sequences.learnable == [0]


def test_labels_of_half_of_the_members_are_above(xnys: Calendar) -> None:
    sequences = made(market(xnys), "relative")
    known = sequences.y[:, 70:-1, 0]
    assert (
        np.isnan(known).sum(axis=0).tolist() == [1] * known.shape[1]
    )  # the member that is the median has none
    assert (np.nansum(known, axis=0) == 3).all()


def test_without_opens_overnight_and_intraday_are_not_asked(xnys: Calendar) -> None:
    sequences = made(market(xnys, opens=False), *TARGETS)
    assert [TARGETS[place] for place in sequences.learnable] == ["direction", "relative"]
    assert sequences.asked.any(axis=(0, 1)).tolist() == [True, True, False, False, False, False]


def test_a_symbol_whose_opens_repeat_the_close_is_not_asked_and_others_are(xnys: Calendar) -> None:
    panel = market(xnys)
    panel.open[1:, 0] = panel.close[:-1, 0]
    sequences = made(panel, "direction", "overnight", "overnight_relative")
    assert not sequences.asked[0, OPENS_SEEN:, 1:].any()
    assert sequences.asked[1:, OPENS_SEEN:].all()
    assert sequences.asked[0, :, 0].all()


@pytest.mark.parametrize("cut", [80, 100])
def test_what_is_asked_and_every_label_that_was_known_depend_on_nothing_later(
    xnys: Calendar, cut: int
) -> None:
    whole, short = market(xnys), market(xnys, cut + 1)
    one, other = made(whole, *TARGETS), made(short, *TARGETS)
    assert np.array_equal(one.asked[:, : cut + 1], other.asked)
    assert np.array_equal(one.y[:, :cut], other.y[:, :cut], equal_nan=True)
    assert np.isnan(other.y[:, cut]).all()
    then = one.through(whole.sessions[cut])
    assert np.array_equal(then.y, other.y, equal_nan=True)
    assert np.array_equal(then.returns, other.returns, equal_nan=True)


def test_the_overnight_columns_are_those_that_are_known(xnys: Calendar) -> None:
    panel = market(xnys)
    features = with_overnight(FEATURE_SETS["closes"])
    columns = features.compute(panel, panel.has_bar)
    night = part_returns(panel, Output("overnight", 1))
    assert columns["overnight_return"].to_numpy()[1:] == pytest.approx(night[:-1])
    assert columns["overnight_mean_20"].to_numpy()[60] == pytest.approx(night[40:60].mean(axis=0))
    none = features.compute(market(xnys, opens=False), panel.has_bar)
    assert (none["overnight_return"] == 0).all(axis=None)
    assert tuple(columns) == features.columns


def test_each_output_is_found_by_target_and_horizon(xnys: Calendar) -> None:
    sequences = made(market(xnys), "direction", "overnight", "intraday_relative")
    rows = pd.DataFrame({"target": ["intraday_relative", "direction", "relative"], "horizon": [1, 1, 1]})
    assert sequences.outputs_of(rows).tolist() == [2, 0, -1]


def test_some_of_the_outputs_are_kept_with_all_that_belongs_to_them(xnys: Calendar) -> None:
    whole = made(market(xnys), "direction", "overnight", "relative")
    some = whole.with_outputs(place for place in (2, 0))
    assert [output.target for output in some.outputs] == ["relative", "direction"]
    for name in ("y", "returns", "asked"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[..., [2, 0]])
    assert some.x is whole.x


def test_only_targets_that_need_opens_look_back_for_them() -> None:
    assert reach_of_targets([Output("direction", 1), Output("relative", 5)]) == 0
    assert reach_of_targets([Output("direction", 1), Output("intraday_relative", 1)]) == OPENS_SEEN


def test_an_open_that_repeats_the_last_close_after_a_gap_is_none(xnys: Calendar) -> None:
    panel = by_hand(xnys, [10, np.nan, 10.5, 11.5], [10.5, np.nan, 11, 12])
    assert np.isnan(part_returns(panel, Output("intraday", 1))[:, 0]).tolist() == [True, True, False, True]
