"""Abstention: the least confidence at which a direction is issued, set on the calibrate range for a target coverage.

Confidence is |p_up - 0.5|. An issued direction is right with probability max(p_up, 1 - p_up) = 0.5 + |p_up - 0.5|, as
far as p_up is calibrated, so abstaining on the least confident rows costs the fewest hits: the reject option of Chow
(1970), "On optimum recognition error and reject tradeoff"; the coverage is set as by Geifman and El-Yaniv (2017),
"Selective classification for deep neural networks". The distance of the calibrated logit from 0 ranks the rows in the
same order. The distance from the base rate does not: at a base rate of 53%, it would issue a direction at 50.1% and
abstain at 53%.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Abstention", "fit_abstention"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Abstention:
    """The least confidence at which a direction is issued, per horizon.

    Attributes:
        target: Coverage to reach: the share of forecasts that issue a direction.
        threshold: Least |p_up - 0.5| that issues a direction; 0: every forecast does.
        achieved: Coverage of the calibrate rows.
        tied: Share of the calibrate rows that have exactly the confidence at which the target falls: no threshold can
            separate them, so the coverage misses the target by a part of this share.
        rows: Number of calibrate rows.
    """

    target: float
    threshold: tuple[float, ...]
    achieved: tuple[float, ...]
    tied: tuple[float, ...]
    rows: tuple[int, ...]

    @classmethod
    def never(cls, horizons: int) -> "Abstention":
        """Return the rule that never abstains."""
        return cls(1.0, (0.0,) * horizons, (1.0,) * horizons, (0.0,) * horizons, (0,) * horizons)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Abstention":
        """Return the rule that `to_json` wrote.

        Raises:
            TypeError: `kept` is not one.
        """
        numbers: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}
        return cls(**numbers)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain numbers."""
        return asdict(self)


def fit_abstention(p_up: Floats, target: float) -> Abstention:
    """Return the thresholds whose coverage is nearest to the target.

    Rows of equal confidence abstain together, so the coverage may lie above or below the target; of two that are
    equally near, the larger is taken. If all rows are equal, none abstains: the model would never issue a direction.

    Args:
        p_up: [row, horizon], calibrated; NaN on rows to leave out.
        target: Coverage in (0, 1].
    """
    if target >= 1:
        never = Abstention.never(p_up.shape[1])
        return Abstention(
            1.0, never.threshold, never.achieved, never.tied, tuple(np.isfinite(p_up).sum(0).tolist())
        )
    threshold, achieved, tied, rows = zip(
        *(_fit_horizon(np.abs(p[np.isfinite(p)] - 0.5), target) for p in p_up.T), strict=True
    )
    return Abstention(target, threshold, achieved, tied, rows)


def _fit_horizon(confidence: Floats, target: float) -> tuple[float, float, float, int]:
    """Return the threshold, the share at or above it, the share tied at the target's level, and the number of rows."""
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
