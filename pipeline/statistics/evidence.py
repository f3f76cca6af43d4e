"""Evidence against a hypothesis that may be looked at after every session: a bet that the hypothesis expects to lose.

Under the hypothesis that a bounded number x, at least -1, has a mean of at most zero given the past, the wealth of
somebody who bets a fixed share of it on x is a supermartingale: product over sessions of (1 + share x). By Ville's
inequality it ever reaches 1 / alpha with a probability of at most alpha, however often one looks and whenever one
stops. The mean over several shares is such a wealth too. Waudby-Smith and Ramdas (2024), "Estimating means of bounded
random variables by betting", JRSS B 86(1); Ramdas, Grünwald, Vovk and Shafer (2023), "Game-theoretic statistics and
safe anytime-valid inference", Statistical Science 38(4).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHARES", "evidence_of", "log_wealth"]

SHARES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""The shares that are bet: daily differences are small beside their noise, which calls for small ones."""


def log_wealth(x: NDArray[np.float64], before: Sequence[float] = (0.0,) * len(SHARES)) -> NDArray[np.float64]:
    """Return the logarithm of the wealth of each share, [share], after the sessions of x.

    Args:
        x: [..., session], each in [-1, 1]; its bound must have been known before its outcome.
        before: The logarithms before these sessions; default: a wealth of one.

    Raises:
        ValueError: a number is not in [-1, 1].
    """
    if np.size(x) and not (np.abs(x) <= 1 + 1e-9).all():
        raise ValueError("evidence needs numbers from -1 to 1")
    gained = np.log1p(np.multiply.outer(np.clip(x, -1, 1), SHARES)).sum(axis=-2)
    return np.asarray(np.asarray(before) + gained)


def evidence_of(logs: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
    """Return the e-value, [...]: the mean wealth over the shares of `log_wealth` [..., share]."""
    return np.asarray(np.exp(np.clip(np.asarray(logs), -700, 700)).mean(axis=-1))
