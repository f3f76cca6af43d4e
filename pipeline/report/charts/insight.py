"""Figures of the diagnostics of a network: sensitivity by lag and feature importance."""

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from pipeline.evaluation.network_insight import Insight
from pipeline.outputs import Output, describe_output, list_outputs, select_output
from pipeline.report.charts.figure import FIRST, INK, MUTED, SECOND, canvas, legend_below, to_svg

__all__ = ["SCALE", "draw_importance", "draw_sensitivity"]

SCALE: Final = 1000
"""Importance is drawn in units of 0.001 nats, the order of magnitude of daily features."""


def draw_sensitivity(insight: Insight) -> str:
    """Draw the sensitivity by lag on a logarithmic axis: the members' mean, minimum and maximum of the first output.

    Vertical lines mark the lookback and the lags that contain 50% and 95% of the sensitivity. Thin lines: the further
    outputs.
    """
    memory = insight.memory
    near, (first, *further) = memory.iloc[0], list_outputs(memory)
    norms = {
        output: select_output(insight.sensitivity, output).groupby("lag")["norm"].agg(["mean", "min", "max"])
        for output in (first, *further)
    }
    with canvas(3.4) as (figure, axes):
        for output in further:
            axes.plot(norms[output]["mean"].replace(0, np.nan), color=MUTED, linewidth=0.8)
        rows = norms[first]
        shown = rows.where(rows > 0)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda norm, _: f"{norm:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.fill_between(rows.index, shown["min"], shown["max"], color=FIRST, alpha=0.18, linewidth=0)
        axes.plot(rows.index, shown["mean"], color=FIRST, label="mean of the ensemble members")
        axes.axvline(
            near["half"], color=SECOND, linewidth=1, linestyle=":", label=f"50% within {near['half'] + 1}"
        )
        axes.axvline(
            near["most"], color=SECOND, linewidth=1, linestyle="--", label=f"95% within {near['most'] + 1}"
        )
        axes.axvline(near["lookback"] - 1, color=MUTED, linewidth=1, label=f"lookback {near['lookback']}")
        axes.set(xlabel="sessions back", ylabel="influence on the logit", xlim=(-0.5, rows.index.max() + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
        legend_below(axes, 2)
        return to_svg(figure, f"Sensitivity by lag: {near['finding']}", _describe_sensitivity(memory, rows))


def _describe_sensitivity(memory: pd.DataFrame, rows: pd.DataFrame) -> str:
    outputs = "; ".join(
        f"{describe_output(Output(row['target'], row['horizon']))}: 50% within the last {row['half'] + 1} and 95% "
        f"within the last {row['most'] + 1} sessions, a decay factor of {row['decay']:.3g} per session, "
        f"{row['finding']}"
        for row in memory.to_dict("records")
    )
    first, last = rows["mean"].iloc[0], rows["mean"].iloc[-1]
    return (
        f"{outputs}. The mean sensitivity is {first:.2g} logits per standard deviation at the last session and "
        f"{last:.2g} {rows.index[-1]} sessions back."
    )


def _describe_ends(low: float, high: float) -> str:
    return f"{low:+.2g} to {high:+.2g}" if np.isfinite([low, high]).all() else "no interval: too few sessions"


def draw_importance(importance: pd.DataFrame) -> str:
    """Draw the permutation importance of each feature: the increase in log loss, with its interval.

    Args:
        importance: feature, rise, low, high, of one output.
    """
    rows = importance.sort_values("rise", kind="stable")
    places = np.arange(len(rows))
    with canvas(0.75 + 0.24 * len(rows)) as (figure, axes):
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.barh(places, SCALE * rows["rise"], 0.6, color=FIRST, alpha=0.45, linewidth=0)
        axes.hlines(places, SCALE * rows["low"], SCALE * rows["high"], color=INK, linewidth=1)
        axes.set_yticks(places, [name.replace("_", " ") for name in rows["feature"]])
        axes.set(ylim=(-0.7, len(rows) - 0.3), xlabel="increase in log loss (0.001 nats)")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y", visible=False)
        scaled = (SCALE * rows[["rise", "low", "high"]]).to_numpy()[::-1]
        values = "; ".join(
            f"{name} {rise:+.2g} ({_describe_ends(low, high)})"
            for name, (rise, low, high) in zip(rows["feature"][::-1], scaled, strict=True)
        )
        return to_svg(
            figure,
            "Importance of each feature with its 95% interval",
            f"Increase in log loss (0.001 nats): {values}.",
        )
