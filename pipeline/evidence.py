"""How much a score stands on: its rows, the sessions they come from, and how many independent rows they are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline import metrics, ranking
from pipeline.labelled import LabelledRows

__all__ = ["SIDES", "Evidence", "weigh_evidence"]

SIDES: Final = ("hit_rate", "balanced_accuracy", "mcc")
"""Metrics of the sides taken: rows with p = 0.5 take none and are not in them."""


@dataclass(frozen=True)
class Evidence:
    """What a score stands on.

    Attributes:
        n: Rows.
        effective_n: Independent rows that would know as much.
        sessions: Sessions that the rows come from.
    """

    n: int
    effective_n: float
    sessions: int


def weigh_evidence(rows: LabelledRows, model: str) -> Mapping[str, Evidence]:
    """Return what each metric of a model stands on.

    effective_n is `metrics.effective_n` of the hits (for the metrics of the sides taken), the log losses, the outcomes
    (uncertainty), the parts that the rows have in an AUC, or else the squared errors; between sessions it is the
    number of sessions that count. Where a model takes no side at all, the rows on offer are counted.
    """
    p, y, session = rows.p[model], rows.y, rows.session
    called = p != 0.5 if (p != 0.5).any() else np.ones(len(p), bool)
    hits = _count(session[called], metrics.effective_n(_hits(p, y)[called], session[called]))
    squared = _count(session, metrics.effective_n(metrics.squared_errors(p, y), session))
    decided = ~np.isnan(ranking.sessions_won(y, session))
    between = _count(session[decided[session]], float(decided.sum()))
    return {
        **dict.fromkeys(SIDES, hits),
        **dict.fromkeys(("brier", "brier_skill", "miscalibration", "discrimination", "ece"), squared),
        "uncertainty": _count(session, metrics.effective_n(y, session)),
        "log_loss": _count(session, metrics.effective_n(metrics.log_losses(p, y), session)),
        "auc": _count(session, ranking.effective_n_of_auc(p, y, session)),
        "auc_within_sessions": _count(session, ranking.effective_n_within_sessions(p, y, session)),
        "auc_between_sessions": between if between.n else squared,
    }


def _hits(p: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((p > 0.5) == (y == 1), float)


def _count(session: NDArray[np.intp], effective_n: float) -> Evidence:
    return Evidence(len(session), effective_n, len(np.unique(session)))
