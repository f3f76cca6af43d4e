"""Which rows of a symbol the model cannot use, and why: a feature that is not finite, or a bar without trades."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from pipeline.features.feature_sets import UNIVERSE, FeatureSet
from pipeline.features.panel import Panel
from pipeline.features.sequences import Sequences
from pipeline.market.universe import Universe

__all__ = ["describe_masked", "describe_unused"]

_FEW: Final = 20
"""Masked rows that are not worth a line: one missing bar masks two, whatever the feature set."""

_SHARE: Final = 0.05
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
    """Return, by symbol, the features that are not finite on its bars after the first full window, and where.

    Columns of the other members are named only where no other column is: they follow from the symbol's own.

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
    for name in sorted(feature_set.columns, key=lambda name: name.startswith(UNIVERSE)):
        is_lost = later & ~np.isfinite(columns[name].to_numpy(np.float32))
        for symbol in symbols:
            rows = is_lost[:, panel.symbols.index(symbol)]
            if rows.any() and not (found[symbol] and name.startswith(UNIVERSE)):
                found[symbol].append(_describe(name, panel.sessions[rows]))
    return {
        symbol: "; ".join(text for _, text in sorted(texts, reverse=True)[:3])
        for symbol, texts in found.items()
        if texts
    }


def _describe(name: str, sessions: pd.DatetimeIndex) -> tuple[int, str]:
    count = len(sessions)
    when = f"{sessions[0]:%Y-%m-%d}" + (f" to {sessions[-1]:%Y-%m-%d}" if count > 1 else "")
    return count, f"{name} is not finite on {count:,} ({when})"
