"""On markets made for it each planted leak shows skill, and the clean procedure on the same market shows none."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.audit.apparent_skill import ApparentSkill, Market, show_skills
from pipeline.audit.feature_checks import FeatureAudit
from pipeline.audit.planted_leaks import (
    CannotPlantError,
    fill_at_same_open,
    keep_survivors,
    smooth_with_later,
    without_gaps,
)
from pipeline.audit.procedure_checks import Procedure
from pipeline.config import EvaluationConfig, TradingConfig, TrainingConfig
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import build_panel
from pipeline.forecasting.folds import Fold, scoring_fold
from pipeline.market.calendar import Calendar
from pipeline.outputs import DIRECTION, MAIN, Output
from pipeline.prices.bar_block import Block
from pipeline.trading.fills import read_fills
from tests.models.test_baselines import whole
from tests.pipeline.audit.conftest import audit_of
from tests.support.made_sequences import directions

SYMBOLS, SESSIONS = 20, 480
TRAINING = TrainingConfig(stop_sessions=40, calibrate_sessions=40)
EVALUATION = EvaluationConfig(test_sessions=100)
FAR = 10


def walk(signs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return closes [session, symbol] whose moves have these signs."""
    return 100 * np.exp(np.cumsum(signs * np.abs(rng.normal(0, 0.01, signs.shape)), axis=0))


def random_signs(rng: np.random.Generator) -> np.ndarray:
    return rng.choice([-1, 1], (SESSIONS, SYMBOLS))


def made(days: Calendar, closes: np.ndarray, model: object, outputs: tuple[Output, ...] = (MAIN,)) -> "Made":
    """Return a procedure on these closes; opens are the closes before and a move of the night."""
    rng = np.random.default_rng(9)
    opens = np.vstack([closes[:1], closes[:-1]]) * np.exp(rng.normal(0, 0.002, closes.shape))
    reach = 1 + np.abs(rng.normal(0, 0.005, (2, *closes.shape))) + 1e-4
    high, low = np.maximum(opens, closes) * reach[0], np.minimum(opens, closes) / reach[1]
    volume, none = rng.uniform(1e5, 1e6, closes.shape), np.full(closes.shape, np.nan)
    values = np.stack([opens, high, low, closes, volume, none, none], axis=-1)
    values[np.isnan(closes)] = np.nan
    symbols = [f"S{number:02d}" for number in range(closes.shape[1])]
    block = Block(values, days.sessions[: len(closes)], symbols)
    audit = replace(audit_of(block, FEATURE_SETS["default16"]), outputs=outputs)
    known = audit.make()
    procedure = Procedure(
        name="model",
        model=model,
        base_rate=whole(1)["base_rate"],
        sequences=known,
        fold=scoring_fold(known, EVALUATION, TRAINING),
        calendar=days,
        dead_zone=(0.0, 0.0),
        seed=3,
        refit=False,
        last_return=0,
    )
    return Made(procedure, audit, Market(read_fills(build_panel(block)), TradingConfig()))


@dataclass
class Made:
    procedure: Procedure
    audit: FeatureAudit
    market: Market

    def show(self, plant: Callable[..., Procedure], *given: object, **how: bool) -> ApparentSkill:
        [skill] = show_skills(plant(self.procedure, *given), self.market, **how).values()
        return skill

    @property
    def clean(self) -> ApparentSkill:
        return self.show(lambda procedure: procedure)


def logistic() -> object:
    return whole(1)["logistic_regression"]


@pytest.fixture(scope="module")
def walks(xnys: Calendar) -> Made:
    rng = np.random.default_rng(1)
    return made(xnys, walk(random_signs(rng), rng), logistic())


def test_a_clean_procedure_finds_nothing_in_random_walks(walks: Made) -> None:
    clean = walks.clean
    assert clean.n == SYMBOLS * 100
    assert clean.saved.low <= 0
    assert clean.auc_within.low <= 0.5
    assert clean.earned is not None
    assert clean.earned.low <= 0


def test_a_centred_window_forecasts_random_walks(walks: Made) -> None:
    clean, leaking = walks.clean, walks.show(smooth_with_later)
    assert leaking.saved.low > 0.05
    assert leaking.auc_within.low > 0.6
    assert leaking.more_than(clean, seed=0).low > 0.05
    assert leaking.earned is not None
    assert leaking.earned.low > 0


def test_the_centred_window_has_the_sessions_around_its_own(walks: Made) -> None:
    known, leaking = walks.procedure.sequences, smooth_with_later(walks.procedure).sequences
    row = SESSIONS // 2
    around = known.x[3, row - 2 : row + 3, 0].mean()
    assert leaking.x[3, row, 0] == pytest.approx(around, rel=1e-5)
    assert np.array_equal(leaking.x[:, :, 1:], known.x[:, :, 1:])
    assert np.array_equal(leaking.y, known.y, equal_nan=True)


def test_a_fill_at_a_price_that_has_passed_forecasts_random_walks_and_earns(walks: Made) -> None:
    clean, leaking = walks.clean, walks.show(fill_at_same_open, walks.audit, at_same_open=True)
    assert leaking.saved.low > 0.1
    assert leaking.auc_within.low > 0.7
    assert leaking.earned is not None
    assert clean.earned is not None
    assert leaking.earned.low > clean.earned.high


@pytest.mark.parametrize("target", ["direction", "overnight", "intraday", "intraday_relative"])
def test_the_return_begins_at_the_open_of_the_session_that_is_known(xnys: Calendar, target: str) -> None:
    rng = np.random.default_rng(2)
    output = Output(target, 1)
    market = made(xnys, walk(random_signs(rng), rng), logistic(), (output,))
    leaking = fill_at_same_open(market.procedure, market.audit).sequences
    block, row, symbol = market.audit.block, 200, 4
    end = block["open" if output.part == "overnight" else "close"][row + 1] / block["open"][row] - 1
    expected = end - np.median(end) if output.is_relative else end
    assert leaking.returns[symbol, row, 0] == pytest.approx(expected[symbol])
    assert leaking.y[symbol, row, 0] == (expected[symbol] > 0)


def test_without_opens_no_fill_at_an_open_is_planted(walks: Made) -> None:
    block = walks.audit.block
    values = np.array(block.values)
    values[:, :, 0] = np.nan
    bare = replace(walks.audit, block=replace(block, values=values))
    with pytest.raises(CannotPlantError, match="no symbol has real opens"):
        fill_at_same_open(walks.procedure, bare)


@dataclass
class Rate:
    """Forecasts the share of ups among the calibrate rows, or always the same."""

    always: float | None = None

    def fit(self, x: np.ndarray, mask: np.ndarray, y: np.ndarray, *, calibrate: range, **_: object) -> object:
        part = slice(calibrate.start, calibrate.stop)
        share = np.nanmean(y[:, part][mask[:, part]], axis=0)
        rate = np.clip(share, 0.01, 0.99) if self.always is None else np.full(len(share), self.always)

        def predict(x: np.ndarray, mask: np.ndarray) -> object:
            p = np.where(mask[:, :, None], rate, np.nan)
            return SimpleNamespace(p_up=p, low=p, high=p)

        flat = np.zeros(len(rate))
        fit = SimpleNamespace(predict=predict, base_rate=rate, threshold=flat, first_session=lambda row: row)
        fit.held_out = fit
        return fit


def turning(xnys: Calendar, horizon: int) -> Made:
    """Return a market that rises from the first session of the test on and falls in the hundred before it."""
    rng = np.random.default_rng(4)
    turn = SESSIONS - horizon - EVALUATION.test_sessions + 1
    signs = random_signs(rng)
    signs[turn - 100 : turn], signs[turn:] = -1, 1
    market = made(xnys, walk(signs, rng), Rate(), directions(horizon))
    return replace(market, procedure=replace(market.procedure, base_rate=Rate(0.5)))


def without(procedure: Procedure) -> Procedure:
    return replace(procedure, fold=without_gaps(procedure.fold))


def test_without_a_gap_labels_far_ahead_reach_into_the_test(xnys: Calendar) -> None:
    market = turning(xnys, FAR)
    clean, leaking = market.clean, market.show(without)
    assert clean.saved.value < 0
    assert leaking.more_than(clean, seed=0).low > 0.5


def test_without_a_gap_labels_of_the_next_session_tell_nothing_of_the_test(xnys: Calendar) -> None:
    market = turning(xnys, 1)
    assert market.show(without).more_than(market.clean, seed=0).value == pytest.approx(0, abs=1e-9)


def test_ranges_without_a_gap_keep_their_lengths_and_the_test() -> None:
    fold = Fold(range(30, 250), range(255, 290), range(295, 335), range(340, 400))
    bare = without_gaps(fold)
    assert bare == Fold(range(30, 265), range(265, 300), range(300, 340), range(340, 400))
    assert (len(bare.stop), len(bare.calibrate)) == (len(fold.stop), len(fold.calibrate))


def with_losers(xnys: Calendar, outputs: tuple[Output, ...] = (MAIN,)) -> Made:
    """Return a market in which survivors turn round and the others go on in their direction until they vanish."""
    rng = np.random.default_rng(5)
    repeats = np.where(np.arange(SYMBOLS) % 2 == 0, 0.3, 0.7)
    signs = np.cumprod(np.where(rng.random((SESSIONS, SYMBOLS)) < repeats, 1, -1), axis=0)
    closes = walk(signs, rng)
    closes[-8:, 1::2] = np.nan
    return made(xnys, closes, logistic(), outputs)


def test_survivors_alone_turn_round(xnys: Calendar) -> None:
    market = with_losers(xnys)
    clean, leaking = market.clean, market.show(keep_survivors, market.audit)
    assert clean.saved.value < 0.01
    assert leaking.saved.low > 0.03
    assert leaking.more_than(clean, seed=0).low > 0.03
    assert leaking.hit_rate.low > clean.hit_rate.high
    kept = keep_survivors(market.procedure, market.audit).sequences.mask.any(axis=1)
    assert kept.tolist() == [place % 2 == 0 for place in range(SYMBOLS)]


def test_the_half_that_did_best_survives(walks: Made) -> None:
    kept = keep_survivors(walks.procedure, walks.audit).sequences.mask.any(axis=1)
    closes = walks.audit.block["close"]
    growth = closes[-1] / closes[0]
    assert kept.sum() == SYMBOLS // 2
    assert growth[kept].min() > growth[~kept].max()


def test_too_few_survivors_for_a_median_are_none(xnys: Calendar) -> None:
    rng = np.random.default_rng(6)
    closes = walk(random_signs(rng), rng)[:, :6]
    market = made(xnys, closes, logistic(), (Output("relative", 1),))
    with pytest.raises(CannotPlantError, match="3 survivors are too few for the median"):
        keep_survivors(market.procedure, market.audit)
    lonely = made(xnys, closes[:, :1], logistic(), (Output(DIRECTION, 1),))
    with pytest.raises(CannotPlantError, match="nothing to choose from"):
        keep_survivors(lonely.procedure, lonely.audit)
