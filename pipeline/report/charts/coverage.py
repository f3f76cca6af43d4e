"""The coverage curve: the hit rate of the most confident forecasts, from a small share up to all of them.

For a model whose probabilities carry information the curve falls from left to right; for the base rate it stays level.
"""

import numpy as np
import pandas as pd

from pipeline.evaluation.selective import AchievedCoverage
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

__all__ = ["draw_curve"]


def draw_curve(
    curve: pd.DataFrame, baseline: str, achieved: AchievedCoverage | None = None, about: str = ""
) -> str:
    """Draw the hit rate by coverage with its band, the baseline on the same rows, and the target coverage.

    Args:
        curve: The points of `trace_curve`.
        baseline: The name of the baseline.
        achieved: Target and achieved coverage; None where the model never abstains.
        about: The output, for the title; empty for the first one.
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
        if achieved:
            axes.axvline(achieved.target, color=SECOND, linewidth=1.2, linestyle="--", label="target")
            axes.plot(
                [achieved.coverage],
                np.interp([achieved.coverage], curve["coverage"], curve["hit_rate"]),
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
        return to_svg(figure, title, _describe(curve, baseline, achieved))


def _limits(curve: pd.DataFrame) -> tuple[float, float]:
    every = np.append(curve[["hit_rate", "low", "high", "baseline_rate"]].to_numpy(float).ravel(), 0.5)
    return float(np.nanmin(every)) - 0.02, float(np.nanmax(every)) + 0.02


def _describe(curve: pd.DataFrame, baseline: str, achieved: AchievedCoverage | None) -> str:
    values = "; ".join(
        f"{row['coverage']:.0%} {row['hit_rate']:.1%} ({_describe_ends(row['low'], row['high'])}, n {row['n']:,}, "
        f"{baseline} {row['baseline_rate']:.1%})"
        for row in curve.to_dict("records")
    )
    target = (
        f" The target coverage is {achieved.target:.1%}, the achieved one {achieved.coverage:.1%}."
        if achieved
        else ""
    )
    return f"Coverage and hit rate with its 95% interval: {values}.{target}"


def _describe_ends(low: float, high: float) -> str:
    return f"{low:.1%} to {high:.1%}" if np.isfinite([low, high]).all() else "no interval: too few sessions"
