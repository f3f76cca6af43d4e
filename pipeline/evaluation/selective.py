"""Selective prediction: on which rows a model issues a direction, how often, and how accurate it is there.

The threshold on |p_up - 0.5| is set on the calibration range; `pipeline.forecasting.forecast.choose_directions`
applies it. The risk-coverage curve: El-Yaniv and Wiener (2010), "On the foundations of noise-free selective
classification"; Geifman and El-Yaniv (2017), "Selective classification for deep neural networks". At coverage c it
gives the hit rate of the share c of forecasts with the largest |p_up - 0.5|.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.formatting import format_percent
from pipeline.outputs import MAIN, Output, list_outputs, select_output
from pipeline.schema import FORECAST_KEY, MIN_SESSIONS, SCORES, empty, validated
from pipeline.statistics import bootstrap
from pipeline.statistics.metrics import effective_n, mean_of

__all__ = [
    "COVERAGES",
    "ISSUED_SHARE",
    "AchievedCoverage",
    "describe_base_rate",
    "is_within_band",
    "measure_achieved_coverage",
    "score_coverage",
    "select_issued",
    "trace_curve",
]


Floats = NDArray[np.float64]
ISSUED_SHARE: Final = "sides_taken"
"""The stored name of the metric coverage: the share of forecasts with a direction; its baseline is the target."""


def select_issued(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the rows of all models where `model` issues a direction, so that they can be compared there.

    Args:
        rows: The long frame of `pipeline.evaluation.scores`, with direction.
        model: The model that selects the rows.
    """
    own = rows[(rows["model"] == model) & (rows["direction"] != "none")]
    issued = pd.MultiIndex.from_frame(own[FORECAST_KEY])
    return rows[pd.MultiIndex.from_frame(rows[FORECAST_KEY]).isin(issued)]


def score_coverage(
    rows: pd.DataFrame, *, model: str, target: float, group: str = "all", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return the coverage of a model, the share of its rows with a direction, compared with the target.

    Args:
        rows: The long frame of `pipeline.evaluation.scores`, with direction: rows that the threshold was not set on.
        model: The model.
        target: The target coverage.
        group: The name of these rows.
        draws: Samples of the stationary bootstrap of whole sessions, for the 95% interval.
        seed: Of the bootstrap.

    Returns:
        schema.SCORES, one row; no row without an outcome.
    """
    own = rows[(rows["model"] == model) & rows["outcome"].notna()]
    if own.empty:
        return empty(SCORES)
    is_issued = own["direction"] != "none"
    by_session = is_issued.groupby(own["target_session"])
    issued, n = by_session.sum().to_numpy(float), by_session.count().to_numpy(float)
    [output] = list_outputs(own)
    copies = bootstrap.resample_sessions(issued / n, horizon=output.horizon, draws=draws, seed=seed)
    low, high = bootstrap.percentile_interval(mean_of(copies @ issued, copies @ n))
    line = {"value": issued.sum() / n.sum(), "low": low, "high": high, "n": int(n.sum()), "sessions": len(n)}
    line["effective_n"] = effective_n(np.asarray(is_issued, np.float64), own["target_session"].to_numpy())
    names = {"model": model, "group": group, **output._asdict(), "metric": ISSUED_SHARE, "baseline": "target"}
    return validated(
        pd.DataFrame([{**names, **line, "baseline_value": target, "p_value": np.nan, "t_statistic": np.nan}]),
        SCORES,
    )


_ROUNDING: Final = 1e-6
"""What two computations of the same forecast may differ by: a band without width holds a base rate this close."""


def is_within_band(forecasts: pd.DataFrame) -> pd.Series:
    """Return for each row whether its base rate lies within its band: the members disagree by more than the shift.

    Args:
        forecasts: low, high, baseline_p_up.
    """
    base = forecasts["baseline_p_up"]
    return (forecasts["low"] - _ROUNDING <= base) & (base <= forecasts["high"] + _ROUNDING)


def describe_base_rate(forecasts: pd.DataFrame, *, abstains: bool) -> str:
    """Return how the forecasts of a session compare with their base rates, in sentences; empty where they differ.

    Args:
        forecasts: p_up, low, high, direction, baseline_p_up.
        abstains: Whether `[calibration] coverage` is below 1 already.
    """
    issued = forecasts[forecasts["direction"] != "none"]
    base, within = forecasts["baseline_p_up"], int(is_within_band(forecasts).sum())
    is_same = np.sign(issued["p_up"] - 0.5) == np.sign(issued["baseline_p_up"] - 0.5)
    is_base_rate = bool(len(issued) and is_same.all())
    sentences = []
    if is_base_rate:
        rates = dict.fromkeys([format_percent(base.min()), format_percent(base.max())])
        every, they = (
            (f"All {len(issued):,} directions are", "they") if len(issued) > 1 else ("The direction is", "it")
        )
        sentences.append(
            f"{every} the base rate's ({' to '.join(rates)}): without the model {they} would be the same."
        )
    if within:
        sentences.append(
            f"For {within:,} of {len(forecasts):,} the base rate lies within the band (marked ≈): read that as no call."
        )
    is_spread = forecasts["p_up"].max() - forecasts["p_up"].min() > _ROUNDING  # ties get a direction together
    if not abstains and is_spread and (is_base_rate or 2 * within >= len(forecasts)):
        sentences.append(
            "With [calibration] coverage = 0.5 the next nextday retrain gives a direction to about half of the "
            "forecasts: the most confident ones."
        )
    return " ".join(sentences)


COVERAGES: Final = tuple(percent / 100 for percent in range(5, 101, 5))
"""The coverages of a curve: shares of the forecasts."""
_COLUMNS: Final = ["coverage", "confidence", "n", "sessions", "hit_rate", "low", "high", "baseline_rate"]


@dataclass(frozen=True)
class AchievedCoverage:
    """The coverage that the threshold of the calibration range achieves on other rows.

    Attributes:
        target: Target share of forecasts with a direction.
        coverage: Achieved share, with its 95% interval [low, high].
        low: Lower end; NaN with too few sessions.
        high: Upper end; NaN with too few sessions.
        n: Rows.
        sessions: Sessions they come from.
        tied: Share of the rows whose confidence is the lowest with a direction: they get a direction together.
    """

    target: float
    coverage: float
    low: float
    high: float
    n: int
    sessions: int
    tied: float


def measure_achieved_coverage(
    scores: pd.DataFrame, rows: pd.DataFrame, *, model: str, group: str = "all", output: Output = MAIN
) -> AchievedCoverage | None:
    """Return how often a model issued a direction; None for a model that never abstains by its settings.

    Args:
        scores: schema.SCORES, with the metric ISSUED_SHARE.
        rows: p_up and direction of the model on the rows that were scored.
        model: The model.
        group: The name of these rows.
        output: What the rows forecast.
    """
    own = scores[(scores["metric"] == ISSUED_SHARE) & (scores["model"] == model)]
    found = select_output(own[own["group"] == group], output)
    for row in found.to_dict("records"):
        share = (row["baseline_value"], row["value"], row["low"], row["high"])
        return AchievedCoverage(*share, int(row["n"]), int(row["sessions"]), _measure_tied(rows))
    return None


def _measure_tied(rows: pd.DataFrame) -> float:
    confidence, issued = (rows["p_up"] - 0.5).abs(), rows["direction"] != "none"
    return float((confidence == confidence[issued].min()).mean()) if issued.any() else 0.0


def trace_curve(
    rows: pd.DataFrame,
    baseline: pd.DataFrame,
    *,
    marked: tuple[float, ...] = (),
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the hit rate at every coverage, from the most confident rows to all.

    Ties in confidence are split: where only a fraction of the tied rows belongs to a coverage, each has that fraction
    as its weight, the average of a random choice among them. Rows with p_up = 0.5 have no direction, so the last
    coverage may lie below 1. The 95% band comes from the stationary bootstrap of whole sessions, with the selected rows
    fixed.

    Args:
        rows: target_session, symbol, horizon, p_up, outcome of one model and output, all with an outcome.
        baseline: The forecasts of the baseline on the same rows.
        marked: Coverages to measure in addition to COVERAGES.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        coverage, confidence (the lowest |p_up - 0.5| of its rows), n, sessions, hit_rate, low, high, baseline_rate (on
        the same rows); low and high are NaN with too few sessions; no point where no row has a direction.
    """
    keys = ["symbol", "target_session"]
    both = rows.merge(baseline[[*keys, "p_up"]], on=keys, suffixes=("", "_baseline"), validate="1:1")
    up = both["outcome"].to_numpy() == 1
    p, baseline_p = both["p_up"].to_numpy(float), both["p_up_baseline"].to_numpy(float)
    session = np.unique(both["target_session"].to_numpy(), return_inverse=True)[1]
    coverage, weights, confidence = _weigh(np.abs(p - 0.5), (*COVERAGES, *marked))
    if not len(coverage):
        return pd.DataFrame(columns=_COLUMNS)

    def by_session(values: Floats) -> Floats:
        return np.stack([np.bincount(session, weights=values * w) for w in weights], axis=1)

    issued, hits = by_session(np.ones_like(p)), by_session(((p > 0.5) == up).astype(float))
    directed = (baseline_p != 0.5).astype(float)
    baseline_hits, baseline_issued = by_session(directed * ((baseline_p > 0.5) == up)), by_session(directed)
    low, high = _measure_band(hits, issued, int(both["horizon"].max()), draws, seed)
    return pd.DataFrame(
        {
            "coverage": coverage,
            "confidence": confidence,
            "n": np.rint(issued.sum(axis=0)).astype(int),
            "sessions": (issued > 0).sum(axis=0),
            "hit_rate": mean_of(hits.sum(axis=0), issued.sum(axis=0)),
            "low": low,
            "high": high,
            "baseline_rate": mean_of(baseline_hits.sum(axis=0), baseline_issued.sum(axis=0)),
        }
    )


def _weigh(confidence: Floats, requested: tuple[float, ...]) -> tuple[Floats, list[Floats], Floats]:
    """Return the coverages, the weights [row] of each of them, and its lowest confidence."""
    level, place, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    above = np.cumsum(size) - size
    reach = float((confidence > 0).mean()) if len(confidence) else 0.0
    coverage = np.unique([min(share, reach) for share in requested if reach > 0])
    weights = [np.clip((share * len(confidence) - above) / size, 0, 1) for share in coverage]
    least = np.array([-level[np.flatnonzero(weight > 1e-9)[-1]] for weight in weights])
    return coverage, [weight[place] for weight in weights], least


def _measure_band(hits: Floats, issued: Floats, horizon: int, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Return the ends [coverage] of the 95% intervals of hits over issued directions [session, coverage].

    NaN where a coverage has rows of fewer than MIN_SESSIONS * horizon sessions, as in every other score.
    """
    by_session = mean_of(hits[:, -1], issued[:, -1])
    copies = bootstrap.resample_sessions(by_session, horizon=horizon, draws=draws, seed=seed)
    ends = np.array(
        [bootstrap.percentile_interval(column) for column in mean_of(copies @ hits, copies @ issued).T]
    )
    ends[(issued > 0).sum(axis=0) < MIN_SESSIONS * horizon] = np.nan
    return ends[:, 0], ends[:, 1]
