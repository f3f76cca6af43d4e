"""How the hit rate rises with confidence: from the surest forecasts to all of them.

The risk-coverage curve of selective prediction: El-Yaniv and Wiener (2010), "On the foundations of noise-free selective
classification"; Geifman and El-Yaniv (2017), "Selective classification for deep neural networks". At the coverage c it
shows the hit rate of the share c of forecasts with the largest |p_up - 0.5|. A model whose probabilities know something
falls from left to right; one that only knows the base rate stays level.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import significance
from pipeline.drawing import FIRST, INK, MUTED, SECOND, canvas, legend_below, percent_axis, to_svg
from pipeline.horizons import NEXT, describe_horizon, name_group
from pipeline.metrics import mean_of
from pipeline.scores import Verdict
from pipeline.sides import SIDES_TAKEN
from pipeline.wording import format_interval, format_percent

__all__ = [
    "COVERAGES",
    "Curve",
    "Told",
    "collect_curves",
    "curve_cells",
    "draw_curve",
    "find_told",
    "trace_curve",
]

Floats = NDArray[np.float64]

COVERAGES: Final = tuple(percent / 100 for percent in range(5, 101, 5))
"""The shares of forecasts that a curve is measured at."""

_COLUMNS: Final = ["coverage", "confidence", "n", "sessions", "hit_rate", "low", "high", "baseline_rate"]
_IN_TABLE: Final = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Told:
    """What the threshold that the calibrate range set came to on rows that it was not set on.

    Attributes:
        target: Share of forecasts that was to take a side.
        coverage: Share that did, with its 95% interval [low, high].
        low: Lower end.
        high: Upper end.
        n: Rows.
        sessions: Sessions they stand on.
        tied: Share of the rows that have the least confidence that took a side: they take it together.
    """

    target: float
    coverage: float
    low: float
    high: float
    n: int
    sessions: int
    tied: float


def find_told(scores: pd.DataFrame, rows: pd.DataFrame, *, model: str, group: str = "all") -> Told | None:
    """Return how often a model took a side; None where it was not asked to leave any out.

    Args:
        scores: schema.SCORES, with the share of sides taken.
        rows: p_up and direction of the model on the rows that were scored.
        model: Which.
        group: Which rows they are.
    """
    found = scores[
        (scores["metric"] == SIDES_TAKEN) & (scores["model"] == model) & (scores["group"] == group)
    ]
    for row in found.to_dict("records"):
        share = (row["baseline_value"], row["value"], row["low"], row["high"])
        return Told(*share, int(row["n"]), int(row["sessions"]), _measure_tied(rows))
    return None


def _measure_tied(rows: pd.DataFrame) -> float:
    confidence, takes = (rows["p_up"] - 0.5).abs(), rows["direction"] != "none"
    return float((confidence == confidence[takes].min()).mean()) if takes.any() else 0.0


@dataclass(frozen=True, eq=False)
class Curve:
    """The coverage curve of one horizon.

    Attributes:
        key: What its figure is called.
        about: How far ahead; empty for the next session.
        baseline: The baseline that it stands beside.
        points: Of `trace_curve`.
        told: Where directions are told; None where they always are.
    """

    key: str
    about: str
    baseline: str
    points: pd.DataFrame
    told: Told | None

    @property
    def cells(self) -> list[dict[str, str]]:
        """A few points as rows of short texts."""
        return curve_cells(self.points, self.told)

    def draw(self) -> str:
        """Draw it."""
        return draw_curve(self.points, self.baseline, self.told, self.about)


def collect_curves(
    test_rows: pd.DataFrame, scores: pd.DataFrame, verdicts: Mapping[int, Verdict]
) -> list[Curve]:
    """Return the curve of every horizon with a verdict and a row that takes a side, the nearest first.

    Args:
        test_rows: The long frame of `pipeline.scores`, with direction.
        scores: schema.SCORES of those rows.
        verdicts: By horizon; they name the model and its baseline.
    """
    curves = (_collect(test_rows, scores, horizon, verdict) for horizon, verdict in verdicts.items())
    return [curve for curve in curves if len(curve.points)]


def _collect(test_rows: pd.DataFrame, scores: pd.DataFrame, horizon: int, verdict: Verdict) -> Curve:
    rows = test_rows[test_rows["outcome"].notna() & (test_rows["horizon"] == horizon)]
    own, baseline = (rows[rows["model"] == name] for name in (verdict.model, verdict.baseline))
    told = find_told(scores, own, model=verdict.model, group=name_group("all", horizon))
    marked = (told.target, told.coverage) if told else ()
    is_next = horizon == NEXT
    return Curve(
        key="coverage" if is_next else f"coverage_{horizon}",
        about="" if is_next else describe_horizon(horizon),
        baseline=verdict.baseline,
        points=trace_curve(own, baseline, marked=marked),
        told=told,
    )


def trace_curve(
    rows: pd.DataFrame,
    baseline: pd.DataFrame,
    *,
    marked: tuple[float, ...] = (),
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the hit rate at every coverage, from the surest rows to all.

    Rows of equal confidence come together: where only a part of them belongs to a coverage, each counts by that part,
    which is what a random choice among them would give on average. Rows with p_up = 0.5 take no side, so the last
    coverage may lie below 1. The 95% band is that of the stationary bootstrap of whole sessions, the choice of rows
    kept as it is.

    Args:
        rows: target_session, symbol, horizon, p_up, outcome of one model and horizon, all with an outcome.
        baseline: The same rows as the baseline forecasts them.
        marked: Coverages to be measured beside COVERAGES.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        coverage, confidence (the least |p_up - 0.5| of its rows), n, sessions, hit_rate, low, high, baseline_rate (on
        the same rows); no point where no row takes a side.
    """
    keys = ["symbol", "target_session"]
    both = rows.merge(baseline[[*keys, "p_up"]], on=keys, suffixes=("", "_baseline"), validate="1:1")
    up = both["outcome"].to_numpy() == 1
    p, said = both["p_up"].to_numpy(float), both["p_up_baseline"].to_numpy(float)
    session = np.unique(both["target_session"].to_numpy(), return_inverse=True)[1]
    coverage, weights, confidence = _weigh(np.abs(p - 0.5), (*COVERAGES, *marked))
    if not len(coverage):
        return pd.DataFrame(columns=_COLUMNS)

    def by_session(values: Floats) -> Floats:
        return np.stack([np.bincount(session, weights=values * w) for w in weights], axis=1)

    told, hits = by_session(np.ones_like(p)), by_session(((p > 0.5) == up).astype(float))
    called = (said != 0.5).astype(float)
    said_hits, said_told = by_session(called * ((said > 0.5) == up)), by_session(called)
    low, high = _band(hits, told, int(both["horizon"].max()), draws, seed)
    return pd.DataFrame(
        {
            "coverage": coverage,
            "confidence": confidence,
            "n": np.rint(told.sum(axis=0)).astype(int),
            "sessions": (told > 0).sum(axis=0),
            "hit_rate": mean_of(hits.sum(axis=0), told.sum(axis=0)),
            "low": low,
            "high": high,
            "baseline_rate": mean_of(said_hits.sum(axis=0), said_told.sum(axis=0)),
        }
    )


def _weigh(confidence: Floats, asked: tuple[float, ...]) -> tuple[Floats, list[Floats], Floats]:
    """Return the coverages, how much each row [row] counts at each of them, and the least confidence there."""
    level, place, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    above = np.cumsum(size) - size
    reach = float((confidence > 0).mean()) if len(confidence) else 0.0
    coverage = np.unique([min(share, reach) for share in asked if reach > 0])
    weights = [np.clip((share * len(confidence) - above) / size, 0, 1) for share in coverage]
    least = np.array([-level[np.flatnonzero(weight > 1e-9)[-1]] for weight in weights])
    return coverage, [weight[place] for weight in weights], least


def _band(hits: Floats, told: Floats, horizon: int, draws: int, seed: int) -> tuple[list[float], list[float]]:
    """Return the ends of the 95% interval of each column of hits [session, coverage] over told."""
    length = max(significance.choose_block_length(mean_of(hits[:, -1], told[:, -1])), float(horizon))
    copies = significance.draw_sessions(len(hits), block_length=length, draws=draws, seed=seed)
    drawn = mean_of(copies @ hits, copies @ told)
    low, high = zip(*(significance.percentile_interval(column) for column in drawn.T), strict=True)
    return [*low], [*high]


def draw_curve(curve: pd.DataFrame, baseline: str, told: Told | None = None, about: str = "") -> str:
    """Draw the hit rate by coverage with its band, the baseline on the same rows, and the target.

    Args:
        curve: Of `trace_curve`.
        baseline: Which baseline it is.
        told: Where the threshold lies that directions are told by; None where it leaves nothing out.
        about: What sets it apart from another one on the page.
    """
    title = "Hit rate by coverage" + (f", {about}" if about else "")
    with canvas(2.9) as (figure, axes):
        axes.fill_between(
            curve["coverage"], curve["low"], curve["high"], color=FIRST, alpha=0.18, linewidth=0
        )
        axes.plot(
            curve["coverage"],
            curve["baseline_rate"],
            color=MUTED,
            linewidth=1,
            label=f"{baseline.replace('_', ' ')}, same rows",
        )
        axes.plot(curve["coverage"], curve["hit_rate"], "o-", color=FIRST, markersize=3, label="the model")
        axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle="--")
        if told:
            axes.axvline(told.target, color=SECOND, linewidth=1.2, linestyle="--", label="target")
            axes.plot(
                [told.coverage],
                np.interp([told.coverage], curve["coverage"], curve["hit_rate"]),
                "D",
                color=INK,
                markersize=5,
                label="took a side",
            )
        axes.set(
            xlabel="share of forecasts, the surest first",
            ylabel="hit rate",
            xlim=(0, 1.03),
            ylim=_reach(curve),
        )
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        legend_below(axes, 2)
        return to_svg(figure, title, _in_words(curve, baseline, told))


def _reach(curve: pd.DataFrame) -> tuple[float, float]:
    every = np.append(curve[["hit_rate", "low", "high", "baseline_rate"]].to_numpy(float).ravel(), 0.5)
    return float(np.nanmin(every)) - 0.02, float(np.nanmax(every)) + 0.02


def _in_words(curve: pd.DataFrame, baseline: str, told: Told | None) -> str:
    values = "; ".join(
        f"{r.coverage:.0%} {r.hit_rate:.1%} ({r.low:.1%} to {r.high:.1%}, n {r.n:,}, {baseline} {r.baseline_rate:.1%})"
        for r in curve.itertuples()
    )
    asked = f" The target is {told.target:.1%}, {told.coverage:.1%} took a side." if told else ""
    return f"Coverage and hit rate with its 95% interval: {values}.{asked}"


def curve_cells(curve: pd.DataFrame, told: Told | None = None) -> list[dict[str, str]]:
    """Return a few points of the curve as rows of short texts, that of the target marked."""
    nearest = _nearest(curve, told.target) if told and len(curve) else None
    return [
        _cells(row, is_target=place == nearest)
        for place, row in enumerate(curve.to_dict("records"))
        if place == nearest or place == len(curve) - 1 or np.isclose(row["coverage"], _IN_TABLE).any()
    ]


def _nearest(curve: pd.DataFrame, target: float) -> int:
    return int((curve["coverage"] - target).abs().to_numpy().argmin())


def _cells(row: dict[Hashable, Any], *, is_target: bool) -> dict[str, str]:
    return {
        "coverage": format_percent(row["coverage"]).replace(".0%", "%"),
        "mark": "target" if is_target else "",
        "confidence": f"{100 * row['confidence']:.1f} pp",
        "hit rate": format_percent(row["hit_rate"]),
        "interval": format_interval(row["low"], row["high"], "hit_rate", row["sessions"]),
        "baseline": format_percent(row["baseline_rate"]),
        "n": f"{row['n']:,}",
        "sessions": f"{row['sessions']:,}",
    }
