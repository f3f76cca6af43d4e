"""AUC of all pairs, within sessions and between them: against scikit-learn, and on planted skills."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from pipeline.statistics import auc

RNG = np.random.default_rng(7)


def simulate(sessions: int, symbols: int, *, timing: float, picking: float, digits: int = 6) -> tuple:
    """Return p, y and session: a forecast that knows so much of the session's shock, and so much of each row's."""
    session = np.arange(sessions).repeat(symbols)
    shock, own = RNG.normal(size=sessions)[session], RNG.normal(size=sessions * symbols)
    noise = RNG.normal(size=(2, sessions * symbols))
    noise[0] = RNG.normal(size=sessions)[session]
    p = 0.5 + 0.02 * (timing * shock + noise[0] + picking * own + noise[1])
    return np.round(p, digits), (shock + own > 0).astype(float), session


def worth(p: np.ndarray, y: np.ndarray, session: np.ndarray) -> float:
    return auc.effective_n_of_auc(auc.rank_levels(p), y, session)


def worth_within(p: np.ndarray, y: np.ndarray, session: np.ndarray) -> float:
    wins, pairs = auc.wins_within_sessions(auc.rank_levels(p), y, session)
    return auc.effective_n_within_sessions(wins, pairs, np.bincount(session))


def test_within_sessions_every_pair_of_a_session_is_compared_once() -> None:
    p, y, session = simulate(30, 7, timing=0, picking=1, digits=2)
    won = pairs = 0.0
    for s in range(30):
        ups, downs = p[(session == s) & (y == 1)], p[(session == s) & (y == 0)]
        difference = ups[:, None] - downs[None, :]
        won += (difference > 0).sum() + (difference == 0).sum() / 2
        pairs += difference.size
    assert auc.auc_within_sessions(p, y, session) == pytest.approx(won / pairs)


def test_one_session_has_the_plain_auc_within_it() -> None:
    p, y, session = simulate(1, 60, timing=0, picking=1, digits=2)
    assert auc.auc_within_sessions(p, y, session) == pytest.approx(sk.roc_auc_score(y, p))


def test_between_sessions_each_session_is_one_case() -> None:
    p, y, session = simulate(80, 6, timing=1, picking=0, digits=3)
    mean, share = p.reshape(80, 6).mean(axis=1).round(9), y.reshape(80, 6).mean(axis=1)
    decided = share != 0.5
    assert 0 < decided.sum() < 80
    expected = sk.roc_auc_score(share[decided] > 0.5, mean[decided])
    assert auc.auc_between_sessions(p, y, session) == pytest.approx(expected)


def test_picking_stocks_and_timing_the_market_are_measured_apart() -> None:
    picker, timer = (simulate(400, 20, timing=t, picking=k) for t, k in ((0, 1), (1, 0)))
    assert auc.auc_within_sessions(*picker) > 0.6
    assert auc.auc_between_sessions(*picker) == pytest.approx(0.5, abs=0.1)
    assert auc.auc_within_sessions(*timer) == pytest.approx(0.5, abs=0.02)
    assert auc.auc_between_sessions(*timer) > 0.65


def test_a_constant_has_an_auc_of_one_half_even_where_means_differ_in_the_last_digit() -> None:
    session = np.repeat(np.arange(50), RNG.integers(1, 40, 50))
    y = (RNG.random(len(session)) < 0.53).astype(float)
    p = np.full(len(session), 0.53)
    assert auc.auc_between_sessions(p, y, session) == 0.5
    assert auc.auc_within_sessions(p, y, session) == 0.5


@pytest.mark.parametrize("y", [np.ones(6), np.zeros(6)])
def test_one_class_has_no_auc(y: np.ndarray) -> None:
    p, session = np.linspace(0.4, 0.6, 6), np.arange(6) // 2
    assert math.isnan(auc.auc_within_sessions(p, y, session))
    assert math.isnan(auc.auc_between_sessions(p, y, session))
    assert worth(p, y, session) == 3
    assert worth_within(p, y, session) == 3


def test_the_auc_of_copies_and_of_bins_is_that_of_weighted_rows() -> None:
    p, y, session = simulate(12, 7, timing=1, picking=1, digits=2)
    copies = RNG.multinomial(12, np.full(12, 1 / 12), size=5).astype(float)
    place = auc.ranked_bins(auc.rank_levels(p))
    cell = session * (place.max() + 1) + place
    shape = (12, place.max() + 1)
    ups, downs = (np.bincount(cell, w, shape[0] * shape[1]).reshape(shape) for w in (y, 1 - y))
    by_bin = auc.auc_of_bins(copies @ ups, copies @ downs)
    by_case = auc.auc_of_copies(p, y, copies[:, session])
    for drawn, bins, cases in zip(copies, by_bin, by_case, strict=True):
        expected = sk.roc_auc_score(y, p, sample_weight=drawn[session])
        assert (bins, cases) == pytest.approx((expected, expected))


def test_a_thousand_bins_lose_next_to_nothing() -> None:
    p, y, _ = simulate(500, 80, timing=1, picking=1, digits=12)
    place = auc.ranked_bins(auc.rank_levels(p))
    assert (place.max() + 1, len(np.unique(p))) == (auc.BINS, 40_000)
    binned = float(auc.auc_of_bins(np.bincount(place, y), np.bincount(place, 1 - y)))
    assert binned == pytest.approx(sk.roc_auc_score(y, p), abs=1e-5)


def test_independent_rows_are_worth_about_themselves_and_shared_ones_far_less() -> None:
    session = np.arange(300).repeat(20)
    p, alone = RNG.random(6000), (RNG.random(6000) < 0.5).astype(float)
    assert 4500 < worth(p, alone, session) <= 6000
    assert 4500 < worth_within(p, alone, session) <= 6000
    shock = RNG.normal(size=300)[session]
    together = (shock + 0.5 * RNG.normal(size=6000) > 0).astype(float)
    by_session = RNG.random(300)[session]
    assert worth(by_session, together, session) < 600
    # What moves a whole session is not in the pairs of one session.
    assert worth_within(p, together, session) > 4000


@pytest.mark.slow
def test_the_spread_of_an_auc_is_that_of_as_many_independent_rows() -> None:
    """Mann and Whitney's variance without skill is (n + 1) / (12 n1 n0), here of effective_n rows."""
    session = np.arange(100).repeat(20)
    found, rows = [], []
    for _ in range(300):
        shock, mood = RNG.normal(size=100)[session], RNG.normal(size=100)[session]
        y = (shock + RNG.normal(size=2000) > 0).astype(float)
        p = mood + RNG.normal(size=2000)
        found.append(sk.roc_auc_score(y, p))
        rows.append(worth(p, y, session))
    assert np.var(found) == pytest.approx(1 / (3 * np.mean(rows)), rel=0.25)
