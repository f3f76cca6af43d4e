"""Evidence by betting: what a pencil gives, what the papers promise, and how long a real decay takes to be found."""

import math

import numpy as np
import pytest

from pipeline.statistics.e_process import bet_on_losses, merge_classes


def test_one_step_is_what_a_pencil_gives() -> None:
    evidence = bet_on_losses(np.array([0.5]), np.array([1.0]))
    stakes = [0.03, 0.1, 0.3]  # the spread is the bound
    first = np.mean([1 + stake * 0.5 for stake in stakes]) / 2  # the bettor who begins at once has half
    assert math.exp(evidence.log_e[0]) == pytest.approx(first + 0.5)
    assert evidence.begun[0] == 0


def test_two_steps_multiply_and_the_second_stake_knows_the_first_payoff() -> None:
    payoffs = np.array([0.5, -0.2])
    evidence = bet_on_losses(payoffs, np.ones(2))
    spread = math.sqrt((1 + 0.25) / 2)
    whole = np.mean([(1 + e * 0.5) * (1 - min(e / spread, 0.75) * 0.2) for e in (0.03, 0.1, 0.3)])
    assert math.exp(evidence.log_e[1]) == pytest.approx(whole / 2 + 0.5)


def test_no_later_payoff_changes_the_evidence() -> None:
    rng = np.random.default_rng(1)
    payoffs, bounds = rng.uniform(-1, 1, 400), np.ones(400)
    whole = bet_on_losses(payoffs, bounds).log_e
    assert bet_on_losses(payoffs[:200], bounds[:200]).log_e == pytest.approx(whole[:200])
    assert merge_classes(payoffs[:200], bounds[:200], horizon=5).log_e == pytest.approx(
        merge_classes(payoffs, bounds, horizon=5).log_e[:200]
    )


def test_the_capital_is_a_martingale_at_the_edge_of_the_null() -> None:
    """Mean one over every path of twelve fair coins, with a bettor who begins every third step."""
    paths = ((np.arange(2**12)[:, None] >> np.arange(12)) & 1) * 2.0 - 1
    capital = [np.exp(bet_on_losses(path, np.ones(12), spacing=3).log_e) for path in paths]
    assert np.mean(capital, axis=0) == pytest.approx(np.ones(12))


def test_a_bet_never_loses_everything() -> None:
    assert np.isfinite(bet_on_losses(-np.ones(500), np.ones(500)).log_e).all()
    assert len(bet_on_losses(np.empty(0), np.empty(0)).log_e) == 0
    assert bet_on_losses(np.zeros(5), np.zeros(5)).log_e == pytest.approx(np.zeros(5))


def test_classes_of_a_horizon_are_what_each_alone_would_be() -> None:
    rng = np.random.default_rng(2)
    payoffs, bounds = rng.uniform(-1, 1, 103), np.ones(103)
    merged = merge_classes(payoffs, bounds, horizon=5)
    alone = [bet_on_losses(payoffs[place::5], bounds[place::5], spacing=12).log_e[-1] for place in range(5)]
    assert merged.log_e[-1] == pytest.approx(max(alone) - math.log(5))
    assert merge_classes(payoffs, bounds, horizon=1).log_e == pytest.approx(
        bet_on_losses(payoffs, bounds).log_e
    )


def test_the_beginning_of_a_late_loss_is_found_to_a_quarter() -> None:
    rng = np.random.default_rng(3)
    payoffs = np.clip(rng.normal(-0.05, 0.3, 1200), -1, 1)
    payoffs[700:] += 0.2
    assert 630 <= bet_on_losses(payoffs, np.ones(1200)).begun[-1] <= 756
