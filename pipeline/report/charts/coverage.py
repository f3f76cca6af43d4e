"""The coverage curve: how the hit rate changes from the most confident forecasts to all of them.

A model whose probabilities carry information falls from left to right; one that only knows the base rate stays level.
The curve is measured in `pipeline.evaluation.selective`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline.evaluation.horizons import NEXT, describe_horizon
from pipeline.evaluation.selective import AchievedCoverage, measure_achieved_coverage, trace_curve
from pipeline.evaluation.verdict import Verdict
from pipeline.formatting import format_interval, format_percent
from pipeline.report.charts.figure import (
    FIRST,
    INK,
    MUTED,
    SECOND,
    canvas,
    legend_below,
    percent_axis,
    to_svg,
)

__all__ = ["Curve", "collect_curves", "curve_cells", "draw_curve"]


_IN_TABLE: Final = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """The coverage curve of one horizon.

    Attributes:
        horizon: Sessions ahead.
        key: What its figure is called.
        about: How far ahead; empty for the next session.
        baseline: The baseline that it stands beside.
        points: Of `trace_curve`.
        told: Where directions are told; None where they always are.
    """

    horizon: int
    key: str
    about: str
    baseline: str
    points: pd.DataFrame
    told: AchievedCoverage | None

    @property
    def cells(self) -> list[dict[str, str]]:
        """A few points as rows of short texts."""
        return curve_cells(self.points, self.told, self.horizon)

    def draw(self) -> str:
        """Draw it."""
        return draw_curve(self.points, self.baseline, self.told, self.about)


def collect_curves(
    test_rows: pd.DataFrame, scores: pd.DataFrame, verdicts: Mapping[int, Verdict]
) -> list[Curve]:
    """Return the curve of every horizon with a verdict and a row that takes a side, the nearest first.

    Args:
        test_rows: The long frame of `pipeline.evaluation.scores`, with direction.
        scores: schema.SCORES of those rows.
        verdicts: By horizon; they name the model and its baseline.
    """
    curves = (_collect(test_rows, scores, horizon, verdict) for horizon, verdict in verdicts.items())
    return [curve for curve in curves if len(curve.points)]


def _collect(test_rows: pd.DataFrame, scores: pd.DataFrame, horizon: int, verdict: Verdict) -> Curve:
    rows = test_rows[test_rows["outcome"].notna() & (test_rows["horizon"] == horizon)]
    own, baseline = (rows[rows["model"] == name] for name in (verdict.model, verdict.baseline))
    told = measure_achieved_coverage(scores, own, model=verdict.model, horizon=horizon)
    marked = (told.target, told.coverage) if told else ()
    is_next = horizon == NEXT
    return Curve(
        horizon=horizon,
        key="coverage" if is_next else f"coverage_{horizon}",
        about="" if is_next else describe_horizon(horizon),
        baseline=verdict.baseline,
        points=trace_curve(own, baseline, marked=marked),
        told=told,
    )


def draw_curve(
    curve: pd.DataFrame, baseline: str, told: AchievedCoverage | None = None, about: str = ""
) -> str:
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


def _in_words(curve: pd.DataFrame, baseline: str, told: AchievedCoverage | None) -> str:
    values = "; ".join(
        f"{row['coverage']:.0%} {row['hit_rate']:.1%} ({_describe_ends(row['low'], row['high'])}, n {row['n']:,}, "
        f"{baseline} {row['baseline_rate']:.1%})"
        for row in curve.to_dict("records")
    )
    asked = f" The target is {told.target:.1%}, {told.coverage:.1%} took a side." if told else ""
    return f"Coverage and hit rate with its 95% interval: {values}.{asked}"


def _describe_ends(low: float, high: float) -> str:
    return f"{low:.1%} to {high:.1%}" if np.isfinite([low, high]).all() else "no interval: too few sessions"


def curve_cells(
    curve: pd.DataFrame, told: AchievedCoverage | None = None, horizon: int = NEXT
) -> list[dict[str, str]]:
    """Return a few points of the curve as rows of short texts, that of the target marked."""
    nearest = _nearest(curve, told.target) if told and len(curve) else None
    return [
        _cells(row, horizon, is_target=place == nearest)
        for place, row in enumerate(curve.to_dict("records"))
        if place == nearest or place == len(curve) - 1 or np.isclose(row["coverage"], _IN_TABLE).any()
    ]


def _nearest(curve: pd.DataFrame, target: float) -> int:
    return int((curve["coverage"] - target).abs().to_numpy().argmin())


def _cells(row: dict[Hashable, Any], horizon: int, *, is_target: bool) -> dict[str, str]:
    return {
        "coverage": format_percent(row["coverage"]).replace(".0%", "%"),
        "mark": "target" if is_target else "",
        "confidence": f"{100 * row['confidence']:.1f} pp",
        "hit rate": format_percent(row["hit_rate"]),
        "interval": format_interval(row["low"], row["high"], "hit_rate", row["sessions"], horizon),
        "baseline": format_percent(row["baseline_rate"]),
        "n": f"{row['n']:,}",
        "sessions": f"{row['sessions']:,}",
    }
