"""How often a challenger is promoted that is better, equal or worse, when it is looked at every evening.

What a challenger saves per session is drawn with a mean that is so many standard deviations, and bet against its bound,
as in `pipeline.monitoring.challenge`. Daily forecasts differ little: a model that saves 0.0005 of log loss per
session, with a standard deviation of 0.01, has a ratio of 0.05.
"""

import numpy as np
import pytest

from pipeline.monitoring.challenge import BETTER, DOUBTFUL, Comparison, decide
from pipeline.promotion_config import PromotionConfig
from pipeline.statistics.e_process import bet_on_losses

pytestmark = pytest.mark.bench

PATHS, SESSIONS, SPREAD = 2000, 1260, 0.4
RULE = PromotionConfig()


def e_values(ratio: float, side: int) -> np.ndarray:
    """Return the evidence that the challenger is better (side 1) or worse (-1), [path, session]."""
    rng = np.random.default_rng(0)
    x = np.clip(rng.normal(ratio * SPREAD, SPREAD, (PATHS, SESSIONS)), -1, 1)
    return np.exp([bet_on_losses(side * path, np.ones(SESSIONS)).log_e for path in x])


def share_better(better: np.ndarray, worse: np.ndarray, until: int) -> float:
    """Return the share of paths that are promoted as better by a session."""
    found = 0
    for b, w in zip(better, worse, strict=True):
        for session in range(RULE.min_sessions, until + 1):
            compared = Comparison(
                session, 0, 0.0, 1.0, np.nan, np.nan, float(b[session - 1]), float(w[session - 1])
            )
            if decide(compared, RULE, age=0, own_age=0).reason == BETTER:
                found += 1
                break
    return found / len(better)


@pytest.mark.parametrize("ratio", [-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2])
def test_error_rates(ratio: float) -> None:
    """Print the table of docs/challengers.md; a model that is no better must rarely be called better."""
    better, worse = e_values(ratio, 1), e_values(ratio, -1)
    called = [share_better(better[:500], worse[:500], until) for until in (63, 252, 1260)]
    ever = float((better.max(axis=1) >= 1 / (1 - RULE.confidence)).mean())
    waits = [float((worse[:, until - 1] >= DOUBTFUL).mean()) for until in (RULE.min_sessions, 83, 524)]
    print(f"\n| {ratio:+.2f} | " + " | ".join(f"{share:.1%}" for share in (*called, *waits)) + " |", end="")
    if ratio <= 0:
        assert ever <= 1 - RULE.confidence
