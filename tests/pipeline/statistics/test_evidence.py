"""Evidence by betting: what it is worth in closed form, and how seldom it is wrong however often one looks."""

import numpy as np
import pytest

from pipeline.statistics.evidence import SHARES, evidence_of, log_wealth


def test_the_wealth_is_the_product_of_the_bets() -> None:
    x = np.array([0.5, -0.2, 1.0])
    by_hand = [np.prod([1 + share * each for each in x]) for share in SHARES]
    assert np.allclose(np.exp(log_wealth(x)), by_hand)
    assert evidence_of(log_wealth(x)) == pytest.approx(np.mean(by_hand))
    assert evidence_of(log_wealth(np.empty(0))) == 1


def test_it_goes_on_from_what_was_there_before() -> None:
    x = np.linspace(-1, 1, 30)
    parts = log_wealth(x[20:], log_wealth(x[:20]).tolist())
    assert np.allclose(parts, log_wealth(x))


def test_numbers_beyond_their_bound_are_refused() -> None:
    with pytest.raises(ValueError, match="from -1 to 1"):
        log_wealth(np.array([0.1, 1.5]))


def test_without_a_mean_it_hardly_ever_reaches_twenty_however_often_one_looks() -> None:
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (4000, 500))
    logs = np.stack([np.cumsum(np.log1p(share * signs), axis=1) for share in SHARES], axis=-1)
    reached = (evidence_of(logs).max(axis=1) >= 20).mean()
    assert 0.001 < reached <= 0.05  # Ville's inequality


def test_a_mean_is_found() -> None:
    x = np.random.default_rng(4).choice([-1.0, 1.0], 2000, p=[0.45, 0.55])
    assert evidence_of(log_wealth(x)) > 100
    assert evidence_of(log_wealth(-x)) < 0.6
