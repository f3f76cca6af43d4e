"""Power analysis: how many sessions are needed to distinguish a small edge from none on this universe."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.metrics import mean_of
from pipeline.statistics.significance import long_run_variance, newey_west_lag

__all__ = ["SampleSize", "estimate_sample_size"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SampleSize:
    """The sample size needed to distinguish two hit rates.

    Attributes:
        needed: Sessions in total; NaN where too few are scored to estimate it.
        more: Sessions still missing; NaN where `needed` is.
        sessions: Sessions with a forecast direction.
        per_session: Mean number of forecasts per session.
        worth: Independent forecasts that a session is worth on average.
        sentence: In plain words.
    """

    needed: float
    more: float
    sessions: int
    per_session: float
    worth: float
    sentence: str


def estimate_sample_size(
    p: Floats,
    y: Floats,
    session: NDArray[np.intp],
    *,
    hit_rate: float = 0.52,
    against: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
    horizon: int = 1,
) -> SampleSize:
    """Return how many sessions are needed to distinguish `hit_rate` from `against`, in a one-sided test.

    ((z_level + z_power) s / (hit_rate - against))^2, with s^2 the long-run variance of the hit rates per session
    (Newey and West, 1987): correlated stocks and autocorrelated sessions raise the number. With independent forecasts
    it is `significance.forecasts_needed` divided by the forecasts per session.

    Args:
        p, y: Forecasts and outcomes, [row]; p = 0.5 has no direction and is left out.
        session: [row], numbers that rise with time.
        hit_rate: The hit rate under the alternative.
        against: The hit rate under the null hypothesis.
        power: The probability of detecting `hit_rate`.
        level: The significance level.
        horizon: Sessions ahead; outcomes of neighbouring sessions overlap.
    """
    issued = p != 0.5
    hits, names = ((p[issued] > 0.5) == (y[issued] == 1)).astype(float), session[issued]
    place = np.unique(names, return_inverse=True)[1]
    rows = np.bincount(place).astype(float)
    rates = np.bincount(place, hits) / rows
    goal = f"distinguish a hit rate of {hit_rate:.0%} from {against:.0%}"
    if len(rates) < MIN_SESSIONS * horizon:
        sentence = f"Too few sessions ({len(rates)}) to estimate how many are needed to {goal}."
        return SampleSize(
            math.nan, math.nan, len(rates), float(np.mean(rows)) if len(rows) else 0.0, math.nan, sentence
        )
    variance = long_run_variance(rates, newey_west_lag(len(rates), horizon))
    needed = math.ceil(variance * ((ndtri(1 - level) + ndtri(power)) / (hit_rate - against)) ** 2)
    more, worth = max(needed - len(rates), 0), float(mean_of(against * (1 - against), variance))
    return SampleSize(
        needed, more, len(rates), float(rows.mean()), worth, _sentence(goal, more, len(rates), rows, worth)
    )


def _sentence(goal: str, more: int, sessions: int, rows: Floats, worth: float) -> str:
    needs = f"About {_round(more):,} more sessions" if more else f"No more than these {sessions:,} sessions"
    needs = f"{needs} are needed to {goal} on this universe"
    if math.isnan(worth):  # the hit rate is the same in every session: there is no variance to estimate
        return f"{needs}."
    forecasts = f"the {rows.mean():.0f} forecasts" if rows.mean() >= 1.5 else "the forecasts"
    return f"{needs}: {forecasts} of a session are worth about {worth:.1f} independent ones."


def _round(number: int) -> int:
    """Round to two significant digits: more would overstate the precision."""
    return round(number, 2 - len(str(number)))
