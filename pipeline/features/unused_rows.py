"""Which rows of a symbol the model cannot use, and why: a price or a feature is missing, or nothing traded."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.columns import UNIVERSE, FeatureSet
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import Panel
from pipeline.features.sector_columns import SECTOR
from pipeline.features.sequences import Sequences
from pipeline.formatting import count
from pipeline.market.universe import Universe

__all__ = ["describe_masked", "describe_unused"]

_FEW: Final = 20
"""Masked rows that are not worth a line: one missing bar masks two, whatever the feature set."""

_SHARE: Final = 0.05
_OF_OTHERS: Final = (UNIVERSE, SECTOR)
_UNTRADED_SHARE: Final = 0.5


def describe_unused(
    panel: Panel, feature_set: FeatureSet, universe: Universe, sequences: Sequences
) -> list[str]:
    """Return a line for each symbol of which many rows are masked or have no label, after its first full window.

    Args:
        panel: The bars of `sequences`.
        feature_set, universe: What they were built with.
        sequences: The features, labels and mask of the whole panel.
    """
    bars = panel.has_bar & universe.membership(panel.sessions, panel.symbols).to_numpy()
    later = bars & (np.cumsum(panel.has_bar, axis=0) > feature_set.reach)
    masked, rows = (later & ~sequences.mask.T).sum(axis=0), later.sum(axis=0)
    is_masked = (masked >= _FEW) & (masked > _SHARE * rows)
    symbols = [symbol for symbol, is_one in zip(panel.symbols, is_masked, strict=True) if is_one]
    reasons = describe_masked(panel, feature_set, universe, symbols)
    lines = [
        f"{symbol}: {masked[panel.symbols.index(symbol)]:,} of {rows[panel.symbols.index(symbol)]:,} rows are not "
        f"used: {reasons.get(symbol, 'bars are missing')}"
        for symbol in symbols
    ]
    untraded = (bars & ~panel.is_traded).sum(axis=0)
    for symbol, without, total in zip(panel.symbols, untraded, bars.sum(axis=0), strict=True):
        if without > _UNTRADED_SHARE * max(total, 1):
            lines.append(f"{symbol}: a volume of 0 on {without:,} of {total:,} bars: they have no label")
    return lines


def describe_masked(
    panel: Panel, feature_set: FeatureSet, universe: Universe, symbols: list[str], last: int | None = None
) -> Mapping[str, str]:
    """Return, by symbol, why its bars after the first full window have no features, and where.

    Prices that the feature set needs and the bars lack come first, with a feature set that works without them; then the
    features that are not finite on the other bars. Columns of the other members are named only where nothing else is:
    they follow from the symbol's own.

    Args:
        panel: The bars.
        feature_set: The features.
        universe: The members by date.
        symbols: The symbols to explain.
        last: Of which newest sessions; None: of all.
    """
    if not symbols:
        return {}
    belongs = universe.membership(panel.sessions, panel.symbols).to_numpy()
    columns = feature_set.compute(panel, belongs)
    later = panel.has_bar & belongs & (np.cumsum(panel.has_bar, axis=0) > feature_set.reach)
    if last is not None:
        later[: max(len(later) - last, 0)] = False
    found: dict[str, list[tuple[int, str]]] = {symbol: [] for symbol in symbols}
    lacking = {name: later & np.isnan(getattr(panel, name)) for name in feature_set.needs}
    later &= ~np.logical_or.reduce([*lacking.values()])
    for name in sorted(feature_set.columns, key=lambda name: name.startswith(_OF_OTHERS)):
        is_lost = later & ~np.isfinite(columns[name].to_numpy(np.float32))
        for symbol in symbols:
            rows = is_lost[:, panel.symbols.index(symbol)]
            if rows.any() and not (found[symbol] and name.startswith(_OF_OTHERS)):
                found[symbol].append(_describe(name, panel.sessions[rows]))
    reasons = {}
    for symbol, texts in found.items():
        without = _explain_lacking(panel, feature_set, lacking, symbol)
        if named := [*without, *(text for _, text in sorted(texts, reverse=True))][:3]:
            reasons[symbol] = "; ".join(named)
    return reasons


def _explain_lacking(
    panel: Panel, feature_set: FeatureSet, lacking: Mapping[str, NDArray[np.bool_]], symbol: str
) -> list[str]:
    """Return on which bars of a symbol needed prices are missing, and which feature set does without them; or []."""
    place = panel.symbols.index(symbol)
    names = [name for name, lacks in lacking.items() if lacks[:, place].any()]
    if not names:
        return []
    rows = np.logical_or.reduce([lacking[name][:, place] for name in names])
    works = [
        other.name
        for other in FEATURE_SETS.values()
        if not any(np.isnan(getattr(panel, name)[rows, place]).any() for name in other.needs)
    ]
    fix = f'; [features] set = "{works[0]}" works without' if works else ""
    needed = "them" if len(names) > 1 else "it"
    return [
        f"no {' and no '.join(names)} on {count(int(rows.sum()), 'bar')} ({_describe_days(panel.sessions[rows])}), "
        f"and the feature set {feature_set.name} needs {needed}{fix}"
    ]


def _describe(name: str, sessions: pd.DatetimeIndex) -> tuple[int, str]:
    return len(sessions), f"{name} is not finite on {len(sessions):,} ({_describe_days(sessions)})"


def _describe_days(sessions: pd.DatetimeIndex) -> str:
    return f"{sessions[0]:%Y-%m-%d}" + (f" to {sessions[-1]:%Y-%m-%d}" if len(sessions) > 1 else "")
