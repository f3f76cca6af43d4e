"""The effective sample size of each metric: its rows, their sessions, and how many independent rows they are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.aligned import LabelledRows
from pipeline.evaluation.session_sums import SessionSums
from pipeline.statistics import auc, metrics, ranking
from pipeline.statistics.metrics import effective_n_of

__all__ = ["CLASSIFICATION_METRICS", "EffectiveN", "measure_effective_n"]

CLASSIFICATION_METRICS: Final = ("hit_rate", "balanced_accuracy", "mcc")
"""Metrics of the forecast directions: rows with p = 0.5 have none and are left out."""


@dataclass(frozen=True)
class EffectiveN:
    """The sample size of a score.

    Attributes:
        n: Rows.
        effective_n: Independent rows that would estimate the metric as precisely; NaN without a row.
        sessions: Sessions that the rows come from.
    """

    n: int
    effective_n: float
    sessions: int


def measure_effective_n(rows: LabelledRows, model: str, sums: SessionSums) -> Mapping[str, EffectiveN]:
    """Return the sample size of each metric of a model.

    effective_n is `metrics.effective_n` of the hits (for CLASSIFICATION_METRICS), the log losses, the outcomes
    (uncertainty), the rows' contributions to an AUC, or else the squared errors; for the AUC between sessions it is the
    number of sessions that count, for the metrics of returns `ranking.effective_n_of_means`. For a model without any
    direction all rows are counted.
    """
    p, y, session = rows.p[model], rows.y, rows.session
    issued = p != 0.5 if (p != 0.5).any() else np.ones(len(p), bool)
    hits = ((p > 0.5) == (y == 1)).astype(float)[issued]
    decided = ~np.isnan(sums.won)
    within = auc.effective_n_within_sessions(sums.wins, sums.pairs, sums.rows)
    squared = _count(sums.rows, effective_n_of(metrics.squared_errors(p, y), session))
    between = _count(sums.rows[decided], float(decided.sum()))
    return {
        **dict.fromkeys(
            CLASSIFICATION_METRICS,
            _count(np.bincount(session[issued]), effective_n_of(hits, session[issued])),
        ),
        **dict.fromkeys(("brier", "brier_skill", "miscalibration", "discrimination", "ece"), squared),
        "uncertainty": _count(sums.rows, effective_n_of(y, session)),
        "log_loss": _count(sums.rows, effective_n_of(metrics.log_losses(p, y), session)),
        "auc": _count(sums.rows, sums.auc_effective_n),
        "auc_within_sessions": _count(sums.rows, within),
        "auc_between_sessions": between if between.n else squared,
        **_count_ranked(sums),
    }


def _count_ranked(sums: SessionSums) -> dict[str, EffectiveN]:
    """Return the sample sizes of the RETURN_METRICS: n is 0 where no session has enough rows with a return."""
    found = sums.ranks
    if found is None:
        return {}
    counts = ~np.isnan(found.ic)
    rows = sums.rows[counts]
    ic, spread = (
        _count(rows, ranking.effective_n_of_means(series[counts], chance[counts], rows))
        for series, chance in ((found.ic, found.ic_variance), (found.spread, found.spread_variance))
    )
    return {"rank_ic": ic, "rank_icir": ic, "top_minus_bottom": spread}


def _count(rows: NDArray[Any], effective_n: float) -> EffectiveN:
    return EffectiveN(int(rows.sum()), effective_n, int(np.count_nonzero(rows)))
