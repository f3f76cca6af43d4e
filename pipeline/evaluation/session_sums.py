"""One model's rows summed by session: enough to compute every metric of resampled whole sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.aligned import LabelledRows
from pipeline.statistics import auc as areas
from pipeline.statistics import metrics, ranking
from pipeline.statistics.reliability import decompose_counts, recalibrated_brier

__all__ = ["METRICS", "RETURN_METRICS", "SessionSums", "sum_sessions"]

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

RETURN_METRICS: Final = ("rank_ic", "rank_icir", "top_minus_bottom")
"""Metrics of rows whose realized returns are known."""

_BINS: Final = 10
"""Bins of the calibration error."""


@dataclass(frozen=True, eq=False)
class SessionSums:
    """One model's rows summed by session.

    Attributes:
        rows: Number of rows, [session].
        confusion: Of `metrics.confusion`, [session, 4].
        squared_error: [session].
        log_loss: [session].
        gaps: Sum of outcome less p in each bin of the calibration error, [session, bin].
        ups: [session, bin of p].
        downs: [session, bin of p].
        wins: Pairs of an up and a down of the session in which the up had the higher p, [session].
        pairs: All pairs of an up and a down of the session, [session].
        mean_p: [session].
        won: 1 where more than half went up, 0 for less than half, NaN for exactly half, [session].
        auc_effective_n: Of `auc.effective_n_of_auc`.
        exact: Metrics of all rows that the bins of p only approximate, by name.
        ranks: What the ranking of each session was worth; None where the rows came without returns.
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
    auc_effective_n: float
    exact: Mapping[str, float]
    ranks: ranking.SessionRanking | None = None

    def measure(self, reference: "SessionSums") -> dict[str, float]:
        """Return every metric of the rows, by name."""
        whole = self.resample(np.ones((1, len(self.rows))), reference)
        return {name: float(values[0]) for name, values in whole.items()} | dict(self.exact)

    def resample(self, copies: Floats, reference: "SessionSums") -> dict[str, Floats]:
        """Return every metric [draw] of samples that contain session s copies[:, s] times.

        The bins of p and of the calibration error stay those of all rows. `ece_reach` is the sum of the bins' distances
        from those of all rows, an upper bound of the change of the calibration error.

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
            "auc": areas.auc_of_bins(ups, downs),
            "auc_within_sessions": metrics.mean_of(copies @ self.wins, copies @ self.pairs),
            "auc_between_sessions": areas.auc_of_copies(
                self.mean_p[decided], self.won[decided], copies[:, decided]
            ),
        } | self._resample_ranking(copies)

    def _resample_ranking(self, copies: Floats) -> dict[str, Floats]:
        """Return the RETURN_METRICS of samples, over their sessions that count."""
        if self.ranks is None:
            return {}
        counts = ~np.isnan(self.ranks.ic)
        ic, spread = (np.where(counts, each, 0.0) for each in (self.ranks.ic, self.ranks.spread))
        total, squares, n = copies @ ic, copies @ ic**2, copies @ counts
        values = (
            metrics.mean_of(total, n),
            ranking.information_ratio_of(total, squares, n),
            metrics.mean_of(copies @ spread, n),
        )
        return dict(zip(RETURN_METRICS, values, strict=True))


def sum_sessions(rows: LabelledRows, model: str) -> SessionSums:
    """Sum the rows of a model by session."""
    p, y, add = rows.p[model], rows.y, rows.by_session
    error, level = add(metrics.squared_errors(p, y)), areas.rank_levels(p)
    ranked = ranking.ranks_within_sessions(level, rows.session)
    wins, pairs = areas.wins_of_ranks(ranked.rank, y, rows.session)
    place = areas.ranked_bins(level)
    return SessionSums(
        rows=add(np.ones_like(y)),
        confusion=np.stack([add(cell) for cell in metrics.confusion(p, y).T], axis=1),
        squared_error=error,
        log_loss=add(metrics.log_losses(p, y)),
        gaps=_spread(rows, metrics.bins_of_equal_count(p, _BINS), y - p),
        ups=_spread(rows, place, y),
        downs=_spread(rows, place, 1 - y),
        wins=wins,
        pairs=pairs,
        mean_p=areas.mean_by_session(p, rows.session),
        won=areas.sessions_won(y, rows.session),
        auc_effective_n=areas.effective_n_of_auc(level, y, rows.session),
        exact=_by_level(level, y, float(metrics.mean_of(error.sum(), len(y)))),
        ranks=None
        if rows.returns is None
        else ranking.rank_sessions(ranked, rows.returns, rows.return_ranks, rows.session),
    )


def _by_level(level: NDArray[np.intp], y: Floats, brier: float) -> dict[str, float]:
    count, ups = areas.count_levels(level, y)
    parts = decompose_counts(brier, count, ups)
    auc = float(areas.auc_of_bins(ups, count - ups))
    return {"auc": auc, "miscalibration": parts.miscalibration, "discrimination": parts.discrimination}


def _spread(rows: LabelledRows, place: NDArray[np.intp], values: Floats) -> Floats:
    """Return the sums of `values` [n] over each session and bin, [session, bin]."""
    bins = int(place.max(initial=-1)) + 1
    sums: Floats = np.bincount(rows.session * bins + place, values, rows.sessions * bins).astype(float)
    return sums.reshape(rows.sessions, bins)
