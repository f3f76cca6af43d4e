"""The baselines that a forecast has to beat."""

import importlib
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from models import learners as learners_module
from models.baseline_inputs import RECENT
from models.baselines import BASELINES, OVERNIGHT, Baseline, FittedBaseline, baselines
from models.errors import ModelError
from models.windows import usable_rows
from pipeline.evaluation.verdict import RANKING_RULES

LOOKBACK = 4
RANGES = {"stop": range(251, 260), "calibrate": range(261, 270)}


def whole(lookback: int) -> dict[str, Baseline]:
    """Return every baseline, also those of overnight outputs, for two outputs."""
    nights = dict.fromkeys(OVERNIGHT, 0)
    return baselines(
        0, lookback, universe_features=[1], range_feature=2, overnight=[0, 1], overnight_features=nights
    )


def fit(name: str, x: np.ndarray, y: np.ndarray, train: range = range(250)) -> FittedBaseline:
    model = whole(LOOKBACK)[name]
    return model.fit(x, np.ones(x.shape[:2], dtype=bool), y, train=train, **RANGES, seed=0)


def panel(returns: list[float], ups: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return one symbol with these last returns and labels, after as many filler sessions as a window needs."""
    x = np.array([0.0] * (LOOKBACK - 1) + returns, dtype=np.float32)
    y = np.array([np.nan] * (LOOKBACK - 1) + ups, dtype=np.float32)
    return np.stack([x, np.ones_like(x)], axis=-1)[None], y[None, :, None]


def noise(symbols: int = 8, sessions: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((symbols, sessions, 3)).astype(np.float32)
    return x, (rng.random((symbols, sessions, 1)) < 0.5).astype(np.float32)


@cache
def fitted_on_noise(name: str) -> FittedBaseline:
    """Return the baseline fitted on `noise()`, once for all tests that only forecast with it."""
    return fit(name, *noise())


def hit_rate(fitted: FittedBaseline, x: np.ndarray, y: np.ndarray) -> float:
    p_up = fitted.predict(x, np.ones(x.shape[:2], dtype=bool)).p_up[:, 250:]
    return float(np.mean((p_up > 0.5) == (y[:, 250:] > 0.5)))


# Sessions with returns +, +, -, -, 0; labels 1, 1, 0, 1, 1.
X, Y = panel([0.02, 0.01, -0.01, -0.02, 0.0], [1, 1, 0, 1, 1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("always_up", [0.8] * 5),
        ("base_rate", [0.8] * 5),
        # Followed, the sign hits 3 of its 4 sessions; it forecasts the base rate at a return of zero.
        ("last_sign", [0.75, 0.75, 0.25, 0.25, 0.8]),
        # Reversed, it hits 1 of 4: it still issues its direction, with the lowest confidence.
        ("reversal", [0.499, 0.499, 0.501, 0.501, 0.8]),
        # The sums of 4 sessions are 0.02, 0.03, 0.02, 0.0 and -0.02: it hits 2 of the 4 that are not zero.
        ("momentum", [0.501, 0.501, 0.501, 0.8, 0.499]),
        # Opposed, they hit the other 2.
        ("reversal_5", [0.499, 0.499, 0.499, 0.8, 0.501]),
        # No symbol is a year old.
        ("momentum_252_21", [0.8] * 5),
    ],
)
def test_a_rule_forecasts_its_hit_rate_in_training(name: str, expected: list[float]) -> None:
    prediction = fit(name, X, Y, train=range(X.shape[1])).predict(X, np.ones((1, X.shape[1]), dtype=bool))
    assert prediction.p_up[0, LOOKBACK - 1 :, 0] == pytest.approx(expected)
    assert np.array_equal(prediction.low, prediction.p_up, equal_nan=True)
    assert np.array_equal(prediction.high, prediction.p_up, equal_nan=True)


def test_always_up_forecasts_up_after_a_falling_market_where_the_base_rate_forecasts_down() -> None:
    x, y = panel([0.01] * 5, [0, 0, 0, 0, 1])
    assert fit("always_up", x, y, range(8)).predict(x, np.ones((1, 8), dtype=bool)).p_up[0, -1, 0] > 0.5
    assert fit("base_rate", x, y, range(8)).predict(x, np.ones((1, 8), dtype=bool)).p_up[0, -1, 0] == 0.2


def test_no_rule_is_certain() -> None:
    x, y = panel([0.01, -0.01] * 4, [1, 0] * 4)
    p_up = (
        fit("last_sign", x, y, range(11)).predict(x, np.ones((1, 11), dtype=bool)).p_up[0, LOOKBACK - 1 :, 0]
    )
    assert p_up.tolist() == pytest.approx([0.999, 0.001] * 4)


@pytest.mark.parametrize("name", ["last_sign", "logistic_regression", "gradient_boosting"])
def test_a_planted_trend_is_found(name: str) -> None:
    x, y = noise()
    y[:, :, 0] = (x[:, :, 0] > 0) ^ (np.random.default_rng(6).random(y.shape[:2]) < 0.3)
    best = np.mean((x[:, 250:, 0] > 0) == (y[:, 250:, 0] > 0.5))
    assert hit_rate(fit(name, x, y), x, y) == pytest.approx(best, abs=0.04)
    assert hit_rate(fit("reversal", x, y), x, y) == pytest.approx(1 - best)


@pytest.mark.slow
def test_boosting_finds_what_no_line_separates_in_the_returns_before_the_last() -> None:
    x, y = noise(symbols=20)
    y[:, 1:, 0] = x[:, 1:, 0] * x[:, :-1, 0] > 0
    assert hit_rate(fit("gradient_boosting", x, y), x, y) > 0.9
    assert hit_rate(fit("logistic_regression", x, y), x, y) < 0.6


def test_logistic_regression_sees_the_last_features_and_the_returns_before_them() -> None:
    x, y = noise()
    rows = [(s, t) for s in range(8) for t in range(LOOKBACK - 1, 250)]
    inputs = np.array([[*x[s, t], *x[s, t - 3 : t, 0]] for s, t in rows])
    centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
    labels = [y[s, t, 0] for s, t in rows]
    reference = LogisticRegression(C=1e-5, tol=1e-8).fit((inputs - centre) / spread, labels)
    last = (np.array([*x[2, 270], *x[2, 267:270, 0]]) - centre) / spread
    p_up = fit("logistic_regression", x, y).predict(x, np.ones(x.shape[:2], dtype=bool)).p_up[2, 270, 0]
    assert p_up == pytest.approx(reference.predict_proba(last[None])[0, 1], abs=1e-5)


def test_the_stop_range_chooses_the_penalty_of_logistic_regression() -> None:
    def spread(flips: float) -> float:
        x, y = noise(symbols=20)
        y[:, :, 0] = (x[:, :, 0] > 0) ^ (np.random.default_rng(6).random(y.shape[:2]) < flips)
        p_up = fit("logistic_regression", x, y).predict(x, np.ones(x.shape[:2], dtype=bool)).p_up
        return float(np.nanstd(p_up))

    # A clear signal is worth a weak penalty, noise the strongest: then the forecasts hardly move.
    assert spread(0.1) > 0.1
    assert spread(0.5) < 0.005


def test_a_second_fit_learns_from_all_three_ranges_and_keeps_the_first() -> None:
    x, y = noise()
    y[:, 250:270] = 1 - (x[:, 250:270, :1] > 0)  # upside down after train
    y[:, :250] = x[:, :250, :1] > 0
    mask = np.ones(x.shape[:2], dtype=bool)
    for name in BASELINES:
        model = whole(LOOKBACK)[name]
        once = model.fit(x, mask, y, train=range(250), **RANGES, seed=0)
        twice = model.fit(x, mask, y, train=range(250), **RANGES, seed=0, refit=y)
        assert once.held_out is once
        first, again = once.predict(x, mask).p_up, twice.predict(x, mask).p_up
        assert np.array_equal(twice.held_out.predict(x, mask).p_up, first, equal_nan=True)
        assert twice.base_rate == pytest.approx(y[:, LOOKBACK - 1 : 270].mean())
        if name == "last_sign":
            inside = slice(LOOKBACK - 1, 270)
            hits = ((x[:, inside, 0] > 0) == (y[:, inside, 0] > 0.5)).mean()
            assert np.nanmax(again) == pytest.approx(hits) != np.nanmax(first)


def test_one_logistic_regression_does_not_see_features_about_other_symbols() -> None:
    x, y = noise()
    y[:, :, 0] = x[:, :, 1] > 0
    assert hit_rate(fit("logistic_regression", x, y), x, y) > 0.9
    blind = fit("logistic_without_universe", x, y)
    assert hit_rate(blind, x, y) < 0.6
    mask, without = np.ones(x.shape[:2], dtype=bool), x.copy()
    without[:, :, 1] = 0
    seen, unseen = (blind.predict(each, mask).p_up for each in (x, without))
    assert np.array_equal(seen, unseen, equal_nan=True)


@pytest.mark.parametrize("lookback", [1, 2, 9])
def test_momentum_adds_up_as_many_returns_as_there_are(lookback: int) -> None:
    x, y = noise()
    model = baselines(return_feature=2, lookback=lookback)["momentum"]
    mask = np.ones(x.shape[:2], dtype=bool)
    fitted = model.fit(x, mask, y, train=range(250), **RANGES, seed=0)
    total = x[3, 280 - min(lookback, RECENT) + 1 : 281, 2].sum()
    assert (fitted.predict(x, mask).p_up[3, 280, 0] > 0.5) == (total > 0)


def long_momentum(returns: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the return from 252 to 21 sessions ago [symbol, session], from pandas; 0 where there is none."""
    log_price = pd.DataFrame(np.where(mask, returns, 0).T.astype(float)).cumsum()
    began = pd.DataFrame(mask.T).cumsum() > 0
    known = began.shift(251).fillna(False).astype(bool)
    return (log_price.shift(21) - log_price.shift(252).fillna(0)).where(known, 0).to_numpy().T


def test_long_momentum_is_the_year_without_its_last_month() -> None:
    x, y = noise(sessions=600)
    mask = np.random.default_rng(8).random(x.shape[:2]) < 0.95
    mask[3, :100] = False  # listed later
    ranges = {"train": range(500), "stop": range(501, 540), "calibrate": range(541, 560)}
    fitted = baselines(return_feature=0, lookback=1)["momentum_252_21"].fit(x, mask, y, **ranges, seed=0)
    p_up = fitted.predict(x, mask).p_up[:, :, 0]
    expected = long_momentum(x[:, :, 0], mask)
    up, down = p_up[mask & (expected > 0)], p_up[mask & (expected < 0)]
    assert len(up) > 500
    assert (up == up[0]).all()
    assert (down == 1 - up[0]).all()
    assert p_up[mask & (expected == 0)] == pytest.approx(fitted.base_rate[0])
    assert (expected[3, 252:350] == 0).all()
    assert (expected[3, 360:] != 0).all()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("row", [20, 251, 252, 290])
def test_a_forecast_depends_on_nothing_before_the_first_session_that_it_reads(name: str, row: int) -> None:
    x, _ = noise()
    mask = np.random.default_rng(7).random(x.shape[:2]) < 0.97
    fitted = fitted_on_noise(name)
    first = fitted.first_session(row)
    whole, cut = fitted.predict(x, mask).p_up, fitted.predict(x[:, first:], mask[:, first:]).p_up
    assert np.array_equal(whole[:, row], cut[:, row - first], equal_nan=True)


@pytest.mark.parametrize("name", BASELINES)
def test_the_rows_forecast_are_those_with_a_full_window(name: str) -> None:
    x, _ = noise()
    mask = np.random.default_rng(7).random(x.shape[:2]) < 0.9
    p_up = fitted_on_noise(name).predict(x, mask).p_up
    assert np.array_equal(~np.isnan(p_up[:, :, 0]), usable_rows(mask, LOOKBACK, "windowed"))
    assert np.isnan(fitted_on_noise(name).predict(x[:, :3], mask[:, :3]).p_up).all()


@pytest.mark.parametrize("name", BASELINES)
def test_only_training_sessions_are_learned(name: str) -> None:
    x, y = noise()
    later_x, later_y = x.copy(), y.copy()
    later_x[:, 250:], later_y[:, 250:] = -5, 1
    mask = np.ones(x.shape[:2], dtype=bool)
    first, second = fitted_on_noise(name), fit(name, later_x, later_y)
    assert np.array_equal(first.predict(x, mask).p_up, second.predict(x, mask).p_up, equal_nan=True)
    assert first.base_rate.tolist() == second.base_rate.tolist() == [y[:, LOOKBACK - 1 : 250].mean()]


@pytest.mark.parametrize("name", BASELINES)
def test_each_horizon_is_learned_from_its_own_labels(name: str) -> None:
    x, y = noise()
    both = np.concatenate([y, 1 - y], axis=-1)
    both[:, ::2, 1] = np.nan
    fitted = fit(name, x, both)
    alone = fit(name, x, both[:, :, 1:])
    mask = np.ones(x.shape[:2], dtype=bool)
    assert np.array_equal(fitted.predict(x, mask).p_up[..., 1:], alone.predict(x, mask).p_up, equal_nan=True)


@pytest.mark.parametrize("name", BASELINES)
def test_a_range_of_ups_only_is_learned_without_a_fault(name: str) -> None:
    x, y = noise()
    prediction = fit(name, x, np.ones_like(y)).predict(x, np.ones(x.shape[:2], dtype=bool))
    assert np.nanmax(prediction.p_up) <= 0.999


def test_a_training_range_without_labels_is_refused() -> None:
    x, y = noise()
    with pytest.raises(ModelError, match="the train range"):
        fit("base_rate", x, np.full_like(y, np.nan))


def test_the_names_are_in_order_and_each_is_a_model() -> None:
    models = whole(LOOKBACK)
    assert tuple(models) == BASELINES
    without = tuple(
        name for name in BASELINES if name not in (*OVERNIGHT, "logistic_without_universe", "range_reversal")
    )
    assert tuple(baselines(return_feature=0, lookback=LOOKBACK)) == without
    assert {*RANKING_RULES} < {*BASELINES}
    assert all(isinstance(model, Baseline) for model in models.values())


def test_baselines_cost_no_tensorflow() -> None:
    code = "import models, models.baselines, models.ensembles.model_files, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_boosting_keeps_to_one_thread_whose_result_any_number_would_give() -> None:
    threads: list[int] = []

    class Watched:
        def fit(self, inputs: np.ndarray, labels: np.ndarray) -> None:
            threads.extend(_openmp_threads())

        def predict_proba(self, inputs: np.ndarray) -> np.ndarray:
            threads.extend(_openmp_threads())
            return np.full((len(inputs), 2), 0.5)

    inputs, labels = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1], np.float32)
    _openmp_threads()
    with threadpool_limits(2, user_api="openmp"):
        estimate = learners_module._learn_classifier(Watched(), inputs, labels)
        np.testing.assert_array_equal(estimate(inputs), 0.5)
        assert set(threads) == {1}
        assert set(_openmp_threads()) == {2}


def _openmp_threads() -> list[int]:
    importlib.import_module("sklearn.ensemble")  # it loads OpenMP

    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp"]


def test_the_line_over_the_window_finds_what_lies_in_an_old_session_and_forecasts_in_parts() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 270, 3)).astype(np.float32)
    y = np.full((4, 270, 1), np.nan, np.float32)
    y[:, 3:, 0] = x[:, :-3, 2] > 0  # three sessions back, in a column that is no return
    mask = np.ones(x.shape[:2], dtype=bool)
    models = baselines(0, LOOKBACK)
    ranges = {"train": range(250), **RANGES}
    fitted = models["logistic_window"].fit(x, mask, y, **ranges, seed=0)
    p_up = fitted.predict(x, mask).p_up[:, 261:, 0]
    assert np.mean((p_up > 0.5) == (y[:, 261:, 0] > 0.5)) > 0.9
    blind = models["logistic_regression"].fit(x, mask, y, **ranges, seed=0).predict(x, mask).p_up[:, 261:, 0]
    assert np.mean((blind > 0.5) == (y[:, 261:, 0] > 0.5)) < 0.8
    parts = replace(fitted, at_once=7).predict(x, mask).p_up
    np.testing.assert_allclose(parts, fitted.predict(x, mask).p_up, rtol=1e-6)
    few = replace(models["logistic_window"], most_rows=200).fit(x, mask, y, **ranges, seed=0)
    np.testing.assert_array_equal(few.base_rate, fitted.base_rate)
    assert not np.array_equal(few.predict(x, mask).p_up, fitted.predict(x, mask).p_up, equal_nan=True)
