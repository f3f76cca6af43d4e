"""The choice of a calibration: blocks of sessions, gaps, and one standard error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from models.calibration import cross_validation as module
from models.calibration import curves
from models.calibration.cross_validation import FOLDS, Validation, choose_method, cross_validate
from models.calibration.curves import METHODS

SESSIONS, SYMBOLS = 200, 40
SESSION = np.repeat(np.arange(1000, 1000 + SESSIONS), SYMBOLS)


def rows_of(truth: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, len(SESSION))
    return logits, (rng.random(len(SESSION)) < truth(logits)).astype(float)


def line(method: str, behind: float, standard_error: float) -> Validation:
    return Validation(method, 0.69 + behind, behind, standard_error, 1000, 100)


def chosen(logits: np.ndarray, y: np.ndarray, base_rate: float = 0.5) -> str:
    return choose_method(cross_validate(logits, y, SESSION, base_rate=base_rate, gap=1))


def test_a_network_that_is_only_overconfident_keeps_the_slope_with_a_prior() -> None:
    assert chosen(*rows_of(lambda z: expit(0.4 * z))) == "bayes"


def test_a_rate_of_ups_that_has_moved_since_training_asks_for_platts_intercept() -> None:
    assert chosen(*rows_of(lambda z: expit(0.9 * z + 0.5)), base_rate=0.5) == "platt"


def test_a_step_asks_for_the_isotonic_curve() -> None:
    assert chosen(*rows_of(lambda z: np.where(z > 1, 0.9, 0.4)), base_rate=0.48) == "isotonic"


@pytest.mark.parametrize("seed", range(10))
def test_on_noise_that_all_stocks_of_a_session_share_no_curve_with_an_intercept_is_taken(seed: int) -> None:
    mood = np.repeat(np.random.default_rng(seed).normal(0.53, 0.1, SESSIONS), SYMBOLS)
    assert chosen(*rows_of(lambda z: mood, seed), base_rate=0.53) in ("bayes", "temperature")


def test_within_one_standard_error_of_the_best_the_method_with_the_least_freedom_is_taken() -> None:
    near = (line("temperature", 0.003, 0.002), line("platt", 0.001, 0.001), line("isotonic", 0.0, 0.0))
    assert choose_method(near) == "platt"
    assert choose_method((line("temperature", 0.002, 0.002), *near[1:])) == "temperature"
    assert choose_method((*near[:1], line("platt", 0.002, 0.001), near[2])) == "isotonic"


def test_a_tie_goes_to_the_most_cautious() -> None:
    assert choose_method(tuple(line(method, 0.0, 0.0) for method in METHODS)) == "bayes"


@pytest.mark.parametrize("gap", [1, 5, 20])
def test_what_is_fitted_on_ends_a_gap_before_and_begins_a_gap_after_what_is_held_out(
    gap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, y = rows_of(lambda z: expit(z))
    seen: list[set[int]] = []
    fit = curves.fit_curve

    def spy(method: str, z: np.ndarray, *rest: Any, **more: Any) -> Any:
        if method == "temperature":
            seen.append(set(SESSION[np.isin(logits, z)].tolist()))
        return fit(method, z, *rest, **more)

    monkeypatch.setattr(module, "fit_curve", spy)
    table = cross_validate(logits, y, SESSION, base_rate=0.5, gap=gap)
    every = set(SESSION.tolist())
    assert len(seen) == FOLDS
    for number, fitted in enumerate(seen):
        held = set(range(1000 + 40 * number, 1040 + 40 * number))
        beside = {s for s in every - held if min(abs(s - min(held)), abs(s - max(held))) <= gap}
        assert fitted == every - held - beside
    assert {(row.n, row.sessions) for row in table} == {(len(y), SESSIONS)}


def test_the_table_is_that_of_the_same_folds_done_by_hand() -> None:
    logits, y = rows_of(lambda z: expit(0.5 * z + 0.2))
    table = {row.method: row for row in cross_validate(logits, y, SESSION, base_rate=0.5, gap=1)}
    losses = {method: np.empty(len(y)) for method in METHODS}
    for first in range(1000, 1200, 40):
        held = (first <= SESSION) & (first + 40 > SESSION)
        fitted = (first - 1 > SESSION) | (first + 40 < SESSION)
        for method in METHODS:
            curve = curves.fit_curve(
                method, logits[fitted], y[fitted], base_rate=0.5, session=SESSION[fitted]
            )
            p = curve.p_up(logits[held])
            losses[method][held] = -(y[held] * np.log(p) + (1 - y[held]) * np.log(1 - p))
    by_session = {method: loss.reshape(SESSIONS, SYMBOLS).mean(axis=1) for method, loss in losses.items()}
    best = min(METHODS, key=lambda method: by_session[method].mean())
    for method in METHODS:
        behind = by_session[method] - by_session[best]
        assert table[method].log_loss == float(f"{by_session[method].mean():.6g}")
        assert table[method].behind == pytest.approx(behind.mean(), rel=1e-5, abs=1e-12)
        # Sessions are independent here, so the error that allows for dependence is near the plain one.
        plain = behind.std() / np.sqrt(SESSIONS)
        assert table[method].standard_error == pytest.approx(plain, rel=0.35)


def test_sessions_that_move_together_widen_the_standard_error() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, len(SESSION))
    wave = np.repeat(0.8 * np.sin(np.arange(SESSIONS) / 6), SYMBOLS)
    y = (rng.random(len(SESSION)) < expit(0.5 * logits + wave)).astype(float)
    tables = [cross_validate(logits, y, SESSION, base_rate=0.4, gap=gap) for gap in (1, 20)]
    errors = [next(row.standard_error for row in table if row.behind > 0) for table in tables]
    assert errors[1] > errors[0] > 0


def test_too_few_sessions_are_not_compared_and_keep_the_prior() -> None:
    logits, y = rows_of(lambda z: expit(0.9 * z + 0.5))
    few = np.arange(len(SESSION)) < 24 * SYMBOLS
    assert cross_validate(logits[few], y[few], SESSION[few], base_rate=0.5, gap=1) == ()
    assert choose_method(()) == "bayes"


@pytest.mark.parametrize(("sessions", "is_compared"), [(28, True), (26, False)])
def test_a_curve_is_fitted_on_twenty_sessions_at_least(sessions: int, is_compared: bool) -> None:
    # Of 28 sessions, a block of 6 and a gap of one on both sides leave 20; of 26 they leave 18.
    logits, y = rows_of(expit)
    kept = sessions * SYMBOLS
    assert bool(cross_validate(logits[:kept], y[:kept], SESSION[:kept], base_rate=0.5, gap=1)) is is_compared
