"""Diagnostics of a trained network: sensitivity, memory, gradients and importance, kept next to its evaluation."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.outputs import DIRECTION
from pipeline.statistics.bootstrap import percentile_interval, resample_sessions
from pipeline.storage.files import write_text

__all__ = ["Insight", "load_insight", "rate_importance", "save_insight"]

_TABLES: Final = ("sensitivity", "memory", "gradients", "importance")
_DRAWS: Final = 1000


@dataclass(frozen=True, eq=False)
class Insight:
    """Diagnostics of the model of the scoring fit; a classifier has importance alone, its other tables are empty.

    Attributes:
        sensitivity: target, horizon, member, lag, norm: the mean norm of d logit[t] / d x[t - lag], in logits per
            standard deviation.
        memory: target, horizon, half, most, decay, finding, lookback: how far back 50% and 95% of the sensitivity lie,
            the decay factor per session, and vanishing, exploding, in between or blind.
        gradients: layer, part, member, norm: of the log loss on training rows.
        importance: target, horizon, part, feature, rise, low, high, n, sessions: of the log loss on rows of that part
            (test, or calibrate where there is no test) when the feature is permuted, with its 95% interval.
    """

    importance: pd.DataFrame
    sensitivity: pd.DataFrame = field(default_factory=lambda: _empty("target horizon member lag norm"))
    memory: pd.DataFrame = field(
        default_factory=lambda: _empty("target horizon half most decay finding lookback")
    )
    gradients: pd.DataFrame = field(default_factory=lambda: _empty("layer part member norm"))


def _empty(columns: str) -> pd.DataFrame:
    return pd.DataFrame(columns=columns.split())


def save_insight(folder: Path, insight: Insight) -> None:
    """Write an insight next to the evaluation of the same training."""
    for name in _TABLES:
        write_text(folder / f"{name}.csv", getattr(insight, name).to_csv(index=False))


def load_insight(folder: Path) -> Insight | None:
    """Read what `save_insight` wrote; None where an earlier version wrote nothing.

    Raises:
        ValueError: a file is damaged.
    """
    if not all((folder / f"{name}.csv").exists() for name in _TABLES):
        return None
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in _TABLES}
    for name, table in tables.items():
        if "horizon" in table and "target" not in table:  # written before there were targets
            tables[name] = table.assign(target=DIRECTION)
    return Insight(**tables)


def rate_importance(
    rises: NDArray[np.float64],
    session: NDArray[np.int64],
    features: tuple[str, ...],
    seed: int,
    horizon: int = 1,
) -> pd.DataFrame:
    """Return the mean rise of the log loss per permuted feature with its 95% interval, the largest first.

    Rows of one session move together, so whole sessions are resampled (`bootstrap.resample_sessions`); low and high are
    NaN with too few of them.

    Args:
        rises: [feature, row]; NaN where the row has no label.
        session: Of each row, [row].
        features: Their names.
        seed: Of the bootstrap.
        horizon: Sessions ahead.
    """
    known = np.isfinite(rises[0])
    _, place = np.unique(session[known], return_inverse=True)
    n = np.bincount(place).astype(float)
    lines = []
    for name, rise in zip(features, rises[:, known], strict=True):
        total = np.bincount(place, weights=rise)
        drawn = resample_sessions(total / n, horizon=horizon, draws=_DRAWS, seed=seed)
        low, high = percentile_interval(drawn @ total / (drawn @ n))
        lines.append(
            {"feature": name, "rise": total.sum() / n.sum(), "low": low, "high": high}
            | {"n": int(n.sum()), "sessions": len(n)}
        )
    return pd.DataFrame(lines).sort_values("rise", ascending=False, kind="stable", ignore_index=True)
