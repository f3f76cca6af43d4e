"""How many sessions it takes: the price, in time, of telling a small edge from none on this very universe."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.metrics import mean_of
from pipeline.statistics.significance import long_run_variance, newey_west_lag

__all__ = ["SampleSize", "estimate_sample_size"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SampleSize:
    """What it takes to tell a hit rate from another.

    Attributes:
        needed: Sessions in all; NaN where there are too few to know.
        more: Of which are still missing; NaN as well.
        sessions: Sessions with a side taken.
        per_session: Forecasts of a mean session.
        worth: Independent forecasts that a mean session is worth.
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
    """Return how many sessions tell `hit_rate` from `against`, one-sided, from how much those seen so far vary.

    ((z_level + z_power) s / (hit_rate - against))^2, with s^2 the long-run variance of the sessions' mean hit rates
    (Newey and West, 1987): stocks that move together, and sessions that follow each other, cost sessions. With
    independent forecasts it is `significance.forecasts_needed` over the forecasts of a session.

    Args:
        p, y: Forecasts and outcomes, [row]; p = 0.5 takes no side and is left out.
        session: [row], numbers that rise with time.
        hit_rate: The one to be told from
        against: this one.
        power: How often it shall be told.
        level: How often it may be told falsely.
        horizon: Sessions ahead; outcomes of neighbours overlap.
    """
    told = p != 0.5
    hits, names = ((p[told] > 0.5) == (y[told] == 1)).astype(float), session[told]
    place = np.unique(names, return_inverse=True)[1]
    rows = np.bincount(place).astype(float)
    rates = np.bincount(place, hits) / rows
    goal = f"tell {hit_rate:.0%} from {against:.0%}"
    if len(rates) < MIN_SESSIONS * horizon:
        sentence = f"How many sessions it takes to {goal} here cannot be said from {len(rates)}."
        return SampleSize(
            math.nan, math.nan, len(rates), float(np.mean(rows)) if len(rows) else 0.0, math.nan, sentence
        )
    variance = long_run_variance(rates, newey_west_lag(len(rates), horizon))
    needed = math.ceil(variance * ((norm.ppf(1 - level) + norm.ppf(power)) / (hit_rate - against)) ** 2)
    more, worth = max(needed - len(rates), 0), float(mean_of(against * (1 - against), variance))
    return SampleSize(
        needed, more, len(rates), float(rows.mean()), worth, _sentence(goal, more, len(rates), rows, worth)
    )


def _sentence(goal: str, more: int, sessions: int, rows: Floats, worth: float) -> str:
    takes = (
        f"takes about {_round(more):,} more sessions"
        if more
        else f"takes no more than these {sessions:,} sessions"
    )
    if math.isnan(worth):  # all sides hit alike: nothing varies, and nothing can be said
        return f"To {goal} here {takes}."
    many = f"the {rows.mean():.0f} forecasts" if rows.mean() >= 1.5 else "the forecasts"
    return f"To {goal} here {takes}: {many} of a session are worth about {worth:.1f} independent ones."


def _round(number: int) -> int:
    """Keep two digits: more of them would claim what nobody knows."""
    return round(number, 2 - len(str(number)))
