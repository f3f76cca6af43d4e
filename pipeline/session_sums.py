"""One model's rows summed by session: every metric of a sample of whole sessions comes from these alone."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline import metrics, ranking
from pipeline.labelled import LabelledRows
from pipeline.reliability import decompose_brier, recalibrated_brier

__all__ = ["METRICS", "SessionSums", "measure", "sum_sessions"]

Floats = NDArray[np.float64]

METRICS: Final = (
    "hit_rate",
    "balanced_accuracy",
    "mcc",
    "brier",
    "brier_skill",
    "miscalibration",
    "discrimination",
    "uncertainty",
    "log_loss",
    "ece",
    "auc",
    "auc_within_sessions",
    "auc_between_sessions",
)

_BINS: Final = 10
"""Of the calibration error."""


@dataclass(frozen=True, eq=False)
class SessionSums:
    """One model's rows summed by session.

    Attributes:
        rows: Their number, [session].
        confusion: Of `metrics.confusion`, [session, 4].
        squared_error: [session].
        log_loss: [session].
        gaps: Outcome less p in each bin of the calibration error, [session, bin].
        ups: [session, bin of p].
        downs: [session, bin of p].
        wins: Pairs of one session in which the up had the higher p, [session].
        pairs: Pairs of one session, [session].
        mean_p: [session].
        won: 1 where more than half went up, 0 for fewer, NaN for just half, [session].
    """

    rows: Floats
    confusion: Floats
    squared_error: Floats
    log_loss: Floats
    gaps: Floats
    ups: Floats
    downs: Floats
    wins: Floats
    pairs: Floats
    mean_p: Floats
    won: Floats

    def resample(self, copies: Floats, reference: "SessionSums") -> dict[str, Floats]:
        """Return every metric [draw] of samples that hold session s copies[:, s] times.

        The bins of p and of the calibration error stay those of all rows. `ece_reach` is how far the bins of a sample
        lie from those of all rows: no calibration error can have moved by more.

        Args:
            copies: [draw, session].
            reference: The sums of the baseline on the same rows.
        """
        rows, cells = copies @ self.rows, copies @ self.confusion
        error, decided = copies @ self.squared_error, ~np.isnan(self.won)
        brier, ups, downs = metrics.mean_of(error, rows), copies @ self.ups, copies @ self.downs
        after, share = recalibrated_brier(ups + downs, ups), metrics.mean_of(ups.sum(axis=1), rows)
        gaps = metrics.mean_of(copies @ self.gaps, rows[:, None])
        return {
            "hit_rate": metrics.hit_rate_of(cells),
            "balanced_accuracy": metrics.balanced_accuracy_of(cells),
            "mcc": metrics.mcc_of(cells),
            "brier": brier,
            "brier_skill": 1 - metrics.mean_of(error, copies @ reference.squared_error),
            "miscalibration": brier - after,
            "discrimination": share * (1 - share) - after,
            "uncertainty": share * (1 - share),
            "log_loss": metrics.mean_of(copies @ self.log_loss, rows),
            "ece": np.abs(gaps).sum(axis=1),
            "ece_reach": np.abs(gaps - self.gaps.sum(axis=0) / self.rows.sum()).sum(axis=1),
            "auc": ranking.auc_of_bins(ups, downs),
            "auc_within_sessions": metrics.mean_of(copies @ self.wins, copies @ self.pairs),
            "auc_between_sessions": ranking.auc_of_copies(
                self.mean_p[decided], self.won[decided], copies[:, decided]
            ),
        }


def sum_sessions(rows: LabelledRows, model: str) -> SessionSums:
    """Sum the rows of a model by session."""
    p, y, add = rows.p[model], rows.y, rows.by_session
    wins, pairs = ranking.wins_within_sessions(p, y, rows.session)
    place = ranking.ranked_bins(p)
    return SessionSums(
        rows=add(np.ones_like(y)),
        confusion=np.stack([add(cell) for cell in metrics.confusion(p, y).T], axis=1),
        squared_error=add(metrics.squared_errors(p, y)),
        log_loss=add(metrics.log_losses(p, y)),
        gaps=_spread(rows, metrics.bins_of_equal_count(p, _BINS), y - p),
        ups=_spread(rows, place, y),
        downs=_spread(rows, place, 1 - y),
        wins=wins,
        pairs=pairs,
        mean_p=ranking.mean_by_session(p, rows.session),
        won=ranking.sessions_won(y, rows.session),
    )


def measure(rows: LabelledRows, model: str, baseline: str) -> dict[str, float]:
    """Return every metric of a model on the rows themselves: none of them knows p by its bin alone."""
    p, y, session = rows.p[model], rows.y, rows.session
    parts = decompose_brier(p, y)
    return {
        "hit_rate": metrics.hit_rate(p, y),
        "balanced_accuracy": metrics.balanced_accuracy(p, y),
        "mcc": metrics.mcc(p, y),
        "brier": metrics.brier(p, y),
        "brier_skill": metrics.brier_skill(p, y, rows.p[baseline]),
        "miscalibration": parts.miscalibration,
        "discrimination": parts.discrimination,
        "uncertainty": parts.uncertainty,
        "log_loss": metrics.log_loss(p, y),
        "ece": metrics.ece(p, y, _BINS),
        "auc": metrics.auc(p, y),
        "auc_within_sessions": ranking.auc_within_sessions(p, y, session),
        "auc_between_sessions": ranking.auc_between_sessions(p, y, session),
    }


def _spread(rows: LabelledRows, place: NDArray[np.intp], values: Floats) -> Floats:
    """Return the sums of `values` [n] over each session and bin, [session, bin]."""
    bins = int(place.max(initial=-1)) + 1
    sums: Floats = np.bincount(rows.session * bins + place, values, rows.sessions * bins).astype(float)
    return sums.reshape(rows.sessions, bins)
