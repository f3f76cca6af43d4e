"""Evidence that grows by betting: tests that may be looked at after every observation, without losing their level.

Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", JRSS B 86; Ramdas, Gruenwald,
Vovk and Shafer (2023), "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evidence", "bet_on_losses", "merge_classes"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_EFFECTS: Final = np.array([0.03, 0.1, 0.3])
"""Mean payoffs, in standard deviations of one step, that the bets are made for: from years to a few weeks."""

_MOST_STAKED: Final = 0.75
"""Share of the capital that one bet may lose."""

_SPACING: Final = 63
"""Steps between two of the moments at which the payoffs may have begun to be positive: a quarter of a year."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The e-process of a null hypothesis.

    Attributes:
        log_e: [step], the logarithm of the capital won by betting against the null, which starts at 1. If the null is
            true, the capital ever reaches c with a probability of at most 1 / c (Ville's inequality).
        begun: [step], the step from which on most of that capital was won.
    """

    log_e: Floats
    begun: Integers


def bet_on_losses(payoffs: Floats, bounds: Floats, *, spacing: int = _SPACING) -> Evidence:
    """Bet that the mean of `payoffs` is above zero, and return the evidence against the null that it never is.

    Null: E[payoff of step t | everything known before step t] <= 0 for every t. With stakes L(t) >= 0 that are known
    before step t and at most 1 / bound(t), the capital prod (1 + L(t) payoff(t)) is a non-negative supermartingale
    under the null, and so is every mixture of such capitals, over the stakes and over the step at which the betting
    begins.

    Stakes: effect / s(t), with s(t)^2 = (bound(t)^2 + sum of the squared payoffs before t) / t, and at most three
    quarters of the capital; for each effect of 0.03, 0.1 and 0.3 standard deviations a third of the capital. A bettor
    who starts at the first step alone would have lost much of it when a good record turns bad after years: the j-th
    bettor (j = 0, 1, ...) has the share 1 / ((j + 1)(j + 2)) and begins at step j * spacing.

    Args:
        payoffs: [step], in the order in which they become known; 0 where there is nothing to bet on.
        bounds: [step], known before the step: payoff >= -bound.
        spacing: Steps between two beginnings.
    """
    steps = len(payoffs)
    if not steps:
        return Evidence(np.empty(0), np.empty(0, dtype=np.int64))
    bounds = np.maximum(bounds, 1e-12)
    squares = np.concatenate([[0.0], np.cumsum(payoffs**2)[:-1]])
    spread = np.sqrt((bounds**2 + squares) / np.arange(1, steps + 1))
    stakes = np.minimum(_EFFECTS[:, None] / spread, _MOST_STAKED / bounds)
    won = np.cumsum(np.log1p(stakes * payoffs), axis=1)  # [effect, step]
    starts = np.arange(0, steps, spacing)
    before = np.concatenate([np.zeros((len(_EFFECTS), 1)), won], axis=1)[:, starts]
    gains = won[:, None, :] - before[:, :, None]  # [effect, start, step]
    capital = np.logaddexp.reduce(gains, axis=0) - np.log(len(_EFFECTS))
    number = np.arange(len(starts))
    shares = capital - np.log((number + 1) * (number + 2))[:, None]
    has_begun = starts[:, None] <= np.arange(steps)
    shares = np.where(has_begun, shares, -np.inf)
    waiting = -np.log(has_begun.sum(axis=0) + 1)  # what the later bettors still hold
    return Evidence(
        np.logaddexp(np.logaddexp.reduce(shares, axis=0), waiting), starts[np.argmax(shares, axis=0)]
    )


def merge_classes(payoffs: Floats, bounds: Floats, *, horizon: int) -> Evidence:
    """Bet on outcomes that lie `horizon` steps ahead, so that neighbours overlap.

    When the forecast of step t is made, the outcomes of the `horizon` - 1 forecasts before it are not complete: a bet
    may use those up to t - horizon alone. The steps are therefore dealt to `horizon` classes, each of every horizon-th
    step, in each of which every outcome is known before the next forecast. The evidence is the largest capital of a
    class over `horizon`: by Ville's inequality in each class and the sum of the probabilities it ever reaches c with a
    probability of at most 1 / c. The mean of the capitals has no such guarantee, for while one class waits for its
    outcome the others know a part of it (Henzi and Ziegel 2022, "Valid sequential inference on probability forecast
    performance", Biometrika 109, section 4).

    Args:
        payoffs: [step], in the order of the forecasts.
        bounds: [step], as for `bet_on_losses`.
        horizon: Steps ahead.
    """
    log_e = np.full((horizon, len(payoffs)), 0.0)
    begun = np.zeros((horizon, len(payoffs)), dtype=np.int64)
    for place in range(min(horizon, len(payoffs))):
        steps = np.arange(place, len(payoffs), horizon)
        evidence = bet_on_losses(payoffs[steps], bounds[steps], spacing=max(_SPACING // horizon, 1))
        last = np.searchsorted(steps, np.arange(len(payoffs)), side="right") - 1
        known = last >= 0
        log_e[place, known] = evidence.log_e[last[known]]
        begun[place, known] = steps[evidence.begun[last[known]]]
    best = np.argmax(log_e, axis=0)
    every = np.arange(len(payoffs))
    return Evidence(log_e[best, every] - np.log(horizon), begun[best, every])
