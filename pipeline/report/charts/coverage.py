"""The coverage curve: the hit rate of the most confident forecasts, from a small share up to all of them.

For a model whose probabilities carry information the curve falls from left to right; for the base rate it stays level.
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
        key: The name of its figure.
        about: The horizon in words; empty for the next session.
        baseline: The baseline that it is compared with.
        points: The points of `trace_curve`.
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
        """A table of a few points, as texts."""
        return curve_cells(self.points, self.told, self.horizon)

    def draw(self) -> str:
        """Return the figure as SVG."""
        return draw_curve(self.points, self.baseline, self.told, self.about)


def collect_curves(
    test_rows: pd.DataFrame, scores: pd.DataFrame, verdicts: Mapping[int, Verdict]
) -> list[Curve]:
    """Return the curve of every horizon with a verdict and a forecast other than 50%, the nearest first.

    Args:
        test_rows: The long frame of `pipeline.evaluation.scores`, with direction.
        scores: The schema.SCORES of those rows.
        verdicts: The verdicts by horizon, which name the model and its baseline.
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
    """Draw the hit rate by coverage with its band, the baseline on the same rows, and the target coverage.

    Args:
        curve: The points of `trace_curve`.
        baseline: The name of the baseline.
        told: Target and achieved coverage; None where the model never abstains.
        about: The horizon, for the title; empty for the next session.
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
                label="achieved",
            )
        axes.set(
            xlabel="coverage (most confident first)",
            ylabel="hit rate",
            xlim=(0, 1.03),
            ylim=_limits(curve),
        )
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        legend_below(axes, 2)
        return to_svg(figure, title, _describe(curve, baseline, told))


def _limits(curve: pd.DataFrame) -> tuple[float, float]:
    every = np.append(curve[["hit_rate", "low", "high", "baseline_rate"]].to_numpy(float).ravel(), 0.5)
    return float(np.nanmin(every)) - 0.02, float(np.nanmax(every)) + 0.02


def _describe(curve: pd.DataFrame, baseline: str, told: AchievedCoverage | None) -> str:
    values = "; ".join(
        f"{r.coverage:.0%} {r.hit_rate:.1%} ({_describe_ends(r.low, r.high)}, n {r.n:,}, "
        f"{baseline} {r.baseline_rate:.1%})"
        for r in curve.itertuples()
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
