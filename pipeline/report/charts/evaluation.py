"""Figures of scores, forecasts and training as inline SVG in the page's colours; equal inputs give equal bytes."""

from collections.abc import Hashable
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from pipeline.formatting import format_alike
from pipeline.report.charts.figure import (
    FIRST,
    INK,
    MUTED,
    SECOND,
    canvas,
    date_axis,
    legend_below,
    percent_axis,
    to_svg,
)
from pipeline.statistics.reliability import Decomposition

__all__ = [
    "MOST_DOTS",
    "draw_cumulative",
    "draw_difference",
    "draw_forecasts",
    "draw_methods",
    "draw_ranges",
    "draw_recalibration",
    "draw_reliability",
    "draw_rolling",
    "draw_training",
    "hit_rate_limits",
]

MOST_DOTS: Final = 30
"""Up to this number, forecasts are drawn one by one; more are drawn as a histogram."""


def draw_difference(difference: float, low: float, high: float) -> str:
    """Draw the log loss that the model saves compared with its baseline (positive is better), with its interval."""
    with canvas(0.85) as (figure, axes):
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.hlines(0, low, high, color=FIRST, linewidth=5, alpha=0.35)
        axes.plot([difference], [0], "o", color=FIRST, markersize=7)
        limit = 1.25 * max(abs(low), abs(high), 1e-6)
        axes.set(xlim=(-limit, limit), yticks=[], xlabel="← worse than the baseline   ·   better →")
        axes.locator_params(axis="x", nbins=5)
        axes.spines["left"].set_visible(False)
        value, lower, upper = format_alike(difference, low, high)
        return to_svg(
            figure,
            "Difference from the baseline",
            f"The difference is {value}, with a 95% interval from {lower} to {upper}; "
            "zero means as good as the baseline.",
        )


def draw_cumulative(saved: pd.DataFrame, starts: list[pd.Timestamp]) -> str:
    """Draw the cumulative log loss that a model saves compared with baselines.

    Args:
        saved: Log loss saved per session, by session, a column per baseline; that of the verdict comes first.
        starts: The first test session of each fold.
    """
    total = saved.cumsum()
    with canvas(2.9) as (figure, axes):
        for start in starts:
            axes.axvline(date2num(start), color=MUTED, linewidth=0.6, alpha=0.6)
        axes.axhline(0, color=MUTED, linewidth=1)
        for (rule, line), color in zip(total.items(), (FIRST, SECOND), strict=False):
            label = f"vs. {str(rule).replace('_', ' ')}"
            axes.plot(line.index.to_numpy(), line, color=color, label=label)
        axes.set(ylabel="cumulative log loss saved")
        date_axis(axes)
        legend_below(axes, 2)
        ends = "; ".join(
            f"compared with {rule} {format_alike(line.iloc[-1], decimals=3)[0]}"
            for rule, line in total.items()
        )
        return to_svg(
            figure,
            "Cumulative log loss saved",
            f"At the end, {total.index[-1]:%Y-%m-%d}: {ends}.",
        )


def draw_methods(scores: pd.DataFrame, *, model: str, baseline: str) -> str:
    """Draw the log loss of every method with its interval.

    Args:
        scores: The rows of schema.SCORES for the log loss of one group.
        model: The method that is highlighted.
        baseline: The method whose value is drawn as a dashed line.
    """
    rows = scores.sort_values("value", ascending=False)
    near = rows[rows["model"].isin([model, baseline])]
    left, right = rows["low"].min(), near["high"].max() + 0.5 * (near["high"] - near["low"]).max()
    with canvas(0.75 + 0.26 * len(rows)) as (figure, axes):
        for place, row in enumerate(rows.to_dict("records")):
            _draw_interval(axes, place, row, color=FIRST if row["model"] == model else MUTED, right=right)
        for value in rows.loc[rows["model"] == baseline, "value"]:
            axes.axvline(value, color=SECOND, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows["model"]])
        own = axes.get_yticklabels()[list(rows["model"]).index(model)]
        own.set(color=INK, fontweight="bold")
        margin = 0.05 * (right - left)
        axes.set(
            xlabel="log loss (lower is better)", xlim=(left - margin, right), ylim=(-0.6, len(rows) - 0.4)
        )
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="y", visible=False)
        values = "; ".join(
            f"{r.model} {r.value:.4f} ({r.low:.4f} to {r.high:.4f})" for r in rows.itertuples()
        )
        return to_svg(figure, "Log loss of every method with its 95% interval", f"{values}.")


def _draw_interval(axes: Axes, place: int, row: dict[Hashable, Any], *, color: str, right: float) -> None:
    if row["value"] > right:  # an overconfident rule would compress all others into one dot
        axes.text(right, place, f"{row['value']:.2f} →", color=color, ha="right", va="center")
        return
    axes.hlines(place, row["low"], row["high"], color=color, linewidth=4, alpha=0.3)
    axes.plot([row["value"]], [place], "o", color=color, markersize=5)


def draw_forecasts(forecasts: pd.DataFrame) -> str:
    """Draw the probabilities of one nightly run (FORECASTS columns): one by one, or many as a histogram."""
    if len(forecasts) > MOST_DOTS:
        return _draw_histogram(forecasts)
    rows = forecasts.sort_values("p_up")
    places = range(len(rows))
    with canvas(0.8 + 0.22 * len(rows)) as (figure, axes):
        axes.axvline(0.5, color=MUTED, linewidth=1)
        axes.hlines(places, rows["low"], rows["high"], color=FIRST, linewidth=5, alpha=0.3)
        axes.plot(rows["p_up"], places, "o", color=FIRST, markersize=5.5)
        axes.plot(rows["baseline_p_up"], places, "|", color=SECOND, markersize=11, markeredgewidth=1.8)
        axes.set_yticks(places, rows["symbol"])
        limit = max(0.02, 1.15 * (rows[["low", "high", "baseline_p_up", "p_up"]] - 0.5).abs().max().max())
        axes.set(xlim=(0.5 - limit, 0.5 + limit), ylim=(-0.7, len(rows) - 0.3), xlabel="probability of up")
        percent_axis(axes.xaxis)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y", visible=False)
        values = "; ".join(f"{r.symbol} {r.p_up:.1%}" for r in rows.itertuples())
        return to_svg(figure, "Probability of up, symbol by symbol", f"{values}.")


def _draw_histogram(forecasts: pd.DataFrame) -> str:
    p_up, base_rate = forecasts["p_up"], forecasts["baseline_p_up"].mean()
    with canvas(2.6) as (figure, axes):
        axes.hist(p_up, bins=25, color=FIRST, alpha=0.55)
        axes.axvline(0.5, color=MUTED, linewidth=1, label="50%")
        axes.axvline(base_rate, color=SECOND, linestyle="--", label=f"base rate {base_rate:.1%}")
        axes.set(xlabel="probability of up", ylabel="symbols")
        axes.grid(axis="x", visible=False)
        percent_axis(axes.xaxis)
        axes.locator_params(nbins=6)
        legend_below(axes, 2)
        return to_svg(
            figure,
            "Distribution of the probabilities of up",
            f"{len(p_up)} forecasts from {p_up.min():.1%} to {p_up.max():.1%}, median {p_up.median():.1%}; "
            f"the base rate is {base_rate:.1%}.",
        )


def draw_reliability(table: pd.DataFrame, about: str = "") -> str:
    """Draw the reliability diagram: forecast probability against the share of ups, with a confidence band.

    Args:
        table: mean_p, share_up, n, low, high; one row per bin of similar forecasts.
        about: The output, for the title; empty for the first one.
    """
    p, low, high = table["mean_p"], table["low"], table["high"]
    with canvas(2.9) as (figure, axes):
        axes.axline((0.5, 0.5), slope=1, color=MUTED, linewidth=1, linestyle="--")
        axes.fill_between(p, low, high, color=FIRST, alpha=0.18, linewidth=0)
        alone = len(table) == 1  # a single bin has no band: it is drawn as a bar
        axes.vlines(p, low, high, color=FIRST, linewidth=5 if alone else 1, alpha=0.3 if alone else 0.5)
        axes.plot(p, table["share_up"], "o", color=FIRST, markersize=5)
        margin = max(0.015, 0.06 * (p.max() - p.min()))
        axes.set(
            xlabel="forecast probability of up",
            ylabel="share that went up",
            xlim=(p.min() - margin, p.max() + margin),
            ylim=(min(low.min(), p.min()) - 0.01, max(high.max(), p.max()) + 0.01),
        )
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        axes.locator_params(nbins=6)
        values = "; ".join(
            f"{r.mean_p:.1%} forecast, {r.share_up:.1%} went up ({r.low:.1%} to {r.high:.1%}, n {r.n:,})"
            for r in table.itertuples()
        )
        title = "Reliability diagram: forecast against outcome" + (f", {about}" if about else "")
        return to_svg(figure, title, f"With 95% intervals by session: {values}.")


def draw_recalibration(curve: pd.DataFrame, parts: Decomposition, about: str = "") -> str:
    """Draw the reliability diagram by isotonic recalibration, with its band and the components of the Brier score.

    Args:
        curve: The curve of `reliability.trace_reliability`.
        parts: The components of `reliability.decompose_brier` on the same rows.
        about: The output, for the title; empty for the first one.
    """
    p, recalibrated = curve["mean_p"], curve["share_up"]
    with canvas(2.9) as (figure, axes):
        axes.axline((0.5, 0.5), slope=1, color=MUTED, linewidth=1, linestyle="--")
        axes.fill_between(p, curve["low"], curve["high"], color=FIRST, alpha=0.18, linewidth=0)
        axes.plot(p, recalibrated, "-" if len(curve) > 1 else "o", color=FIRST)
        margin = max(0.015, 0.06 * (p.max() - p.min()))
        axes.set(
            xlabel="forecast probability of up",
            ylabel="recalibrated",
            xlim=(p.min() - margin, p.max() + margin),
            ylim=(
                np.nanmin([curve["low"].min(), recalibrated.min(), p.min()]) - 0.01,
                np.nanmax([curve["high"].max(), recalibrated.max(), p.max()]) + 0.01,
            ),
        )
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        axes.locator_params(nbins=6)
        few = curve.iloc[np.unique(np.linspace(0, len(curve) - 1, 7).round().astype(int))]
        values = "; ".join(map(_describe_recalibration, few.to_dict("records")))
        components = (
            f"miscalibration {parts.miscalibration:.4f}, discrimination {parts.discrimination:.4f}, uncertainty "
            f"{parts.uncertainty:.4f}"
        )
        title = "Reliability diagram: isotonic recalibration of the forecasts" + (
            f", {about}" if about else ""
        )
        return to_svg(
            figure,
            title,
            f"With 95% intervals by session: {values}. The components of the Brier score are {components}.",
        )


def _describe_recalibration(row: dict[Hashable, Any]) -> str:
    band = "" if np.isnan(row["low"]) else f" ({row['low']:.1%} to {row['high']:.1%})"
    return f"{row['mean_p']:.1%} forecast, {row['share_up']:.1%} recalibrated{band}"


def draw_training(epochs: pd.DataFrame) -> str:
    """Draw the training curves of one fit: mean, minimum and maximum of the members' losses by epoch.

    Args:
        epochs: member, epoch, loss, stop_loss.
    """
    with canvas(2.9) as (figure, axes):
        for column, color, name in (
            ("loss", SECOND, "training"),
            ("stop_loss", FIRST, "held out"),
        ):
            by_epoch = epochs.groupby("epoch")[column].agg(["mean", "min", "max"])
            axes.fill_between(
                by_epoch.index, by_epoch["min"], by_epoch["max"], color=color, alpha=0.18, linewidth=0
            )
            axes.plot(by_epoch.index, by_epoch["mean"], color=color, label=name)
        axes.axhline(np.log(2), color=MUTED, linewidth=1, linestyle="--", label="a fair coin")
        axes.set(xlabel="epoch", ylabel="log loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        legend_below(axes, 3)
        best, last = epochs.groupby("member")["stop_loss"].min(), epochs["epoch"].max()
        ends = epochs.groupby("epoch")[["loss", "stop_loss"]].mean().iloc[[0, -1]].to_numpy()
        return to_svg(
            figure,
            "Training curves",
            f"{len(best)} ensemble members, up to {last} epochs: the mean training log loss goes from {ends[0, 0]:.4f} "
            f"to {ends[1, 0]:.4f}, the held-out one from {ends[0, 1]:.4f} to {ends[1, 1]:.4f}. The best held-out log "
            f"loss of an ensemble member is between {best.min():.4f} and {best.max():.4f}; a fair coin has "
            f"{np.log(2):.4f}.",
        )


def hit_rate_limits(*tables: pd.DataFrame) -> tuple[float, float]:
    """Return axis limits that contain every rolling band, so that figures next to each other share one scale."""
    every = pd.concat([table for table in tables if len(table)])
    low, high = min(every["low"].min(), 0.5), max(every["high"].max(), 0.5)
    return max(low - 0.02, 0.0), min(high + 0.02, 1.0)


def draw_rolling(rows: pd.DataFrame, name: str, baseline: str, limits: tuple[float, float]) -> str:
    """Draw a rolling hit rate with its band.

    Args:
        rows: session, rate, low, high, baseline_rate.
        name: "backtest" or "record".
        baseline: The baseline that is drawn as a grey line.
        limits: The lowest and the highest hit rate of the axis.
    """
    color = SECOND if name == "record" else FIRST
    with canvas(2.9) as (figure, axes):
        days = rows["session"].to_numpy()
        axes.fill_between(days, rows["low"], rows["high"], color=color, alpha=0.18, linewidth=0)
        axes.plot(days, rows["baseline_rate"], color=MUTED, linewidth=1, label=baseline.replace("_", " "))
        axes.plot(days, rows["rate"], color=color, label=name)
        axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set(ylabel="hit rate", ylim=limits)
        percent_axis(axes.yaxis)
        date_axis(axes)
        legend_below(axes, 2)
        last = rows.iloc[-1]
        return to_svg(
            figure,
            f"Rolling hit rate of the {name} with its 95% interval",
            f"On {last['session']:%Y-%m-%d} it is {last['rate']:.1%} ({last['low']:.1%} to {last['high']:.1%}), "
            f"{baseline} {last['baseline_rate']:.1%}; over time it lies between {rows['rate'].min():.1%} and "
            f"{rows['rate'].max():.1%}.",
        )


def draw_ranges(ranges: pd.DataFrame) -> str:
    """Draw the splits of history: one bar per fit, one segment per split, and a line below for a second fit.

    Args:
        ranges: fit, part, first_session, last_session.
    """
    styles = {
        "train": (MUTED, 0.3, 0.0, 0.55),
        "stop": (MUTED, 0.6, 0.0, 0.55),
        "calibrate": (SECOND, 0.6, 0.0, 0.55),
        "refit": (MUTED, 0.9, -0.36, 0.1),
        "test": (FIRST, 0.8, 0.0, 0.55),
    }
    fits = list(dict.fromkeys(ranges["fit"]))[::-1]
    with canvas(0.85 + 0.35 * len(fits)) as (figure, axes):
        for part, (color, alpha, shift, height) in styles.items():
            rows = ranges[ranges["part"] == part]
            if rows.empty:
                continue
            first, last = (date2num(rows[name].to_numpy()) for name in ("first_session", "last_session"))
            places = [fits.index(fit) + shift for fit in rows["fit"]]
            axes.barh(
                places, last - first, height, left=first, color=color, alpha=alpha, linewidth=0, label=part
            )
        axes.set_yticks(range(len(fits)), fits)
        axes.grid(axis="y", visible=False)
        date_axis(axes)
        legend_below(axes, ranges["part"].nunique())
        parts = "; ".join(
            f"{r.fit}, {r.part}: {r.first_session:%Y-%m-%d} to {r.last_session:%Y-%m-%d}"
            for r in ranges.itertuples()
        )
        return to_svg(figure, "Splits of history", f"{parts}.")
