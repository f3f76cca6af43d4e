"""When a forecast takes a side: the least confidence, set on the calibrate range so that a target share does.

Confidence is |p_up - 0.5|. A side that is told is right with probability max(p_up, 1 - p_up) = 0.5 + |p_up - 0.5|, as
far as p_up is calibrated, so leaving out the least confident rows costs the fewest hits: the reject option of Chow
(1970), "On optimum recognition error and reject tradeoff"; the coverage is set as by Geifman and El-Yaniv (2017),
"Selective classification for deep neural networks". The distance of the calibrated logit from 0 puts the rows in the
same order. The distance from the base rate does not: with one of 53% it would take a side at 50.1% and none at 53%.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Abstention", "fit_abstention"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Abstention:
    """From which confidence on a forecast takes a side, one number a horizon.

    Attributes:
        target: Share of forecasts that shall take a side.
        threshold: Least |p_up - 0.5| that takes one; 0 for all.
        achieved: Share of the calibrate rows that take one.
        tied: Share of the calibrate rows with the very confidence at which the target falls: no threshold can tell them
            apart, so the share that takes a side misses the target by a part of it.
        rows: How many calibrate rows there were.
    """

    target: float
    threshold: tuple[float, ...]
    achieved: tuple[float, ...]
    tied: tuple[float, ...]
    rows: tuple[int, ...]

    @classmethod
    def never(cls, horizons: int) -> "Abstention":
        """Return what takes a side always."""
        return cls(1.0, (0.0,) * horizons, (1.0,) * horizons, (0.0,) * horizons, (0,) * horizons)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Abstention":
        """Return what `to_json` wrote.

        Raises:
            TypeError: it is none.
        """
        numbers: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}
        return cls(**numbers)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain numbers."""
        return asdict(self)


def fit_abstention(p_up: Floats, target: float) -> Abstention:
    """Return the thresholds by which the share of rows that take a side is nearest to the target.

    Equal confidences take a side together, so the share may miss the target, on either side; of two that are equally
    near the larger one is taken. Where all rows are equal, all take a side: silence for ever would be no forecast.

    Args:
        p_up: [row, horizon], calibrated; NaN on rows to be left out.
        target: Share in (0, 1].
    """
    if target >= 1:
        never = Abstention.never(p_up.shape[1])
        return Abstention(
            1.0, never.threshold, never.achieved, never.tied, tuple(np.isfinite(p_up).sum(0).tolist())
        )
    threshold, achieved, tied, rows = zip(
        *(_fit_one(np.abs(p[np.isfinite(p)] - 0.5), target) for p in p_up.T), strict=True
    )
    return Abstention(target, threshold, achieved, tied, rows)


def _fit_one(confidence: Floats, target: float) -> tuple[float, float, float, int]:
    """Return threshold, share at or above it, share of the level at which the target falls, and rows."""
    level, count = np.unique(confidence, return_counts=True)
    share = np.cumsum(count[::-1])[::-1] / len(confidence)
    nearest = int(np.argmin(np.abs(share - target)))  # the first: the lowest level, the larger share
    falls = int(np.flatnonzero(share >= target)[-1])
    return (
        float(level[nearest]),
        float(share[nearest]),
        float(count[falls] / len(confidence)),
        len(confidence),
    )
