"""The history that a model learns from: the stored prices as a panel and as sequences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from pipeline.errors import InputError, StoreError
from pipeline.features.columns import FeatureSet
from pipeline.features.context import Context, Joined, Series, first_needed, known_instants
from pipeline.features.panel import Panel, build_panel
from pipeline.features.sequences import Sequences, build_sequences
from pipeline.features.targets import MIN_MEMBERS, reach_of_targets
from pipeline.features.unused_rows import describe_masked, describe_unused
from pipeline.outputs import Output, describe_output, describe_outputs
from pipeline.prices.recent_bars import RecentBars

__all__ = [
    "History",
    "describe_context",
    "explain_masked",
    "explain_unlearnable",
    "keep_learnable",
    "make_sequences",
    "price_panel",
    "read_context",
]

_MOST = 5
"""Symbols that are named."""


@dataclass(frozen=True, eq=False)
class History:
    """The universe's prices through one session, as of one version of the store.

    Attributes:
        panel: The adjusted prices.
        sequences: Features, labels and mask of each symbol.
        seq: The version of the store.
    """

    panel: Panel
    sequences: Sequences
    seq: int

    @property
    def as_of(self) -> pd.Timestamp:
        """The last session."""
        return self.sequences.sessions[-1]

    def without_prices(self) -> "History":
        """Return the history with the last session's prices only: to learn from the sequences takes no others."""
        panel = self.panel
        names = ("open", "high", "low", "close", "volume", "adj_close", "last_close")
        last: dict[str, Any] = {name: getattr(panel, name)[-1:].copy() for name in names}
        return replace(self, panel=replace(panel, sessions=panel.sessions[-1:], **last))


@task("make sequences", run_name="make sequences through {as_of:%Y-%m-%d}")
def make_sequences(
    run: Run,
    as_of: pd.Timestamp,
    seq: int,
    feature_set: FeatureSet | None = None,
    first: pd.Timestamp | None = None,
    outputs: tuple[Output, ...] = (),
    bars: RecentBars | None = None,
) -> History:
    """Read the prices through `as_of`, as of the version `seq`, and build the sequences.

    Args:
        run: The run.
        as_of: The last session.
        seq: The version of the store.
        feature_set: What a model reads; default: as configured.
        first: The first session of the sequences; default: that of the first bar.
        outputs: What the labels are; default: as configured, but those of which no row has a label.
        bars: The newest sessions, where they have been read already.

    Raises:
        StoreError: there are no prices.
    """
    chosen = feature_set or run.feature_set(outputs=outputs)
    since = None
    if first is not None:
        # Rows depend on at most so many earlier sessions: older bars are not read.
        reach = max(chosen.reach, reach_of_targets(outputs or run.config.labels.outputs))
        since = run.calendar.sessions[max(int(run.calendar.sessions.searchsorted(first)) - reach, 0)]
    panel = price_panel(run, as_of, seq, since=since, bars=bars, series=chosen.context)
    sequences = build_sequences(panel, chosen, run.universe, outputs or run.config.labels.outputs)
    if first is not None:
        sequences = sequences.since(first)
    log_line(
        f"made sequences of {len(sequences.symbols)} symbols x {len(sequences.sessions)} sessions x "
        f"{len(sequences.features)} features: {int(sequences.mask.sum())} valid rows"
    )
    if first is None:
        _report_unused(panel, chosen, run, sequences)
        _report_context(panel)
    if not outputs:
        sequences = keep_learnable(sequences)
        if run.feature_set(outputs=sequences.outputs).columns != chosen.columns:
            return make_sequences.fn(run, as_of, seq, None, first, sequences.outputs, bars)
    return History(panel, sequences, seq)


def _report_unused(panel: Panel, features: FeatureSet, run: Run, sequences: Sequences) -> None:
    """Log why many rows of a symbol are not used; raise where none is left."""
    lines = describe_unused(panel, features, run.universe, sequences)
    has_label = ~np.isnan(sequences.y).all(axis=-1)
    if lines and not (sequences.mask & has_label).any():
        raise InputError(
            "No row has both features and a label",
            where="".join(f"\n           {line}" for line in lines[:_MOST]).strip(),
            fix="add symbols that trade, or choose other features ([features] set)",
        )
    for line in lines[:_MOST]:
        log_line(line)
    if len(lines) > _MOST:
        log_line(f"and {len(lines) - _MOST:,} more symbols of which many rows are not used")


def _report_context(panel: Panel) -> None:
    """Log on how many sessions a context series is carried or missing, from its first value on."""
    for symbol, joined in (panel.context.join(panel.sessions) if panel.context else {}).items():
        known = ~np.isnan(joined.value)
        since = int(known.argmax()) if known.any() else len(known)
        line = f"context {symbol}: {int(known.sum()):,} of {len(known):,} sessions have a value"
        line += f", the first one {panel.sessions[since]:%Y-%m-%d}" if known.any() else ""
        line += f"; carried on {carried:,}" if (carried := int(joined.is_carried.sum())) else ""
        line += f"; missing on {lost:,} since" if (lost := int((~known[since:]).sum())) else ""
        log_line(line)


def keep_learnable(sequences: Sequences) -> Sequences:
    """Return the sequences without the outputs of which no row has a label, and log which these are.

    Raises:
        InputError: none is left.
    """
    kept = sequences.learnable
    for place, output in enumerate(sequences.outputs):
        if place not in kept:
            log_line(f"there is no forecast {describe_output(output)}: {explain_unlearnable(output)}")
    if not kept and not sequences.mask.any():
        return sequences  # without a valid row there is more to say than that labels lack
    if not kept:
        raise InputError(
            f"There is nothing to learn: no row has a label {describe_outputs([*sequences.outputs])}",
            where="[labels] targets",
            fix='add symbols with opens, or targets that need none: ["direction"]',
        )
    return sequences if len(kept) == len(sequences.outputs) else sequences.with_outputs(kept)


def explain_unlearnable(output: Output) -> str:
    """Return what an output without labels lacks, in words."""
    lacks = []
    if output.needs_open:
        lacks.append(
            "no symbol has real opens (a missing one, or one that repeats the close before it, is none)"
        )
    if output.is_relative:
        lacks.append(f"a median needs {MIN_MEMBERS} constituents")
    return ", or ".join(lacks) or "no row has an outcome"


def price_panel(
    run: Run,
    as_of: pd.Timestamp,
    seq: int,
    symbols: list[str] | None = None,
    since: pd.Timestamp | None = None,
    bars: RecentBars | None = None,
    series: Sequence[str] = (),
) -> Panel:
    """Return the stored prices through `as_of`, as of the version `seq`, aligned with the calendar.

    Args:
        run: The run.
        as_of: The last session.
        seq: The version of the store.
        symbols: The columns; default: the universe's.
        since: The first session; default: that of the first bar.
        bars: The newest sessions, where they have been read already.
        series: The context series to read beside them.

    Raises:
        StoreError: there are no prices.
    """
    symbols = symbols or run.universe.symbols
    sessions = run.calendar.sessions_between(since or run.calendar.sessions[0], as_of)
    block = (bars or run.store).read_block(sessions, symbols, seq).from_first_bar()
    if len(block.sessions) == 0:
        raise StoreError(f"The store has no bar up to {as_of:%Y-%m-%d}", where=run.store.place)
    return build_panel(block, read_context(run, block.sessions, seq, series) if series else None)


def read_context(run: Run, sessions: pd.DatetimeIndex, seq: int, symbols: Sequence[str]) -> Context:
    """Return what was known of the context series at the close of each session, as of the version `seq`.

    Nothing that became known after the last close is read.

    Args:
        run: The run.
        sessions: Consecutive sessions of the universe.
        seq: The version of the store.
        symbols: The series.

    Raises:
        StoreError: the store cannot be read.
    """
    known = Context((), run.calendar.closes, run.config.context.missing)
    first, last = known.close_of(sessions[0]), known.close_of(sessions[-1])
    read = dict[str, Series]()
    for part in run.context:
        store = run.of_context(part).store
        for symbol in part.symbols:
            instants = known_instants(part.calendar, run.config.context.lag_of(symbol))
            rows = slice(first_needed(instants, first), int(np.searchsorted(instants, last, side="right")))
            value = np.empty(0)
            if len(instants[rows]):
                panel = build_panel(store.read_block(part.calendar.sessions[rows], [symbol], seq))
                value = panel.adj_close[:, 0]
            read[symbol] = Series(symbol, part.calendar.sessions[rows], instants[rows], value)
    return replace(known, series=tuple(read[symbol] for symbol in symbols))


def describe_context(run: Run, as_of: pd.Timestamp, seq: int, symbols: Sequence[str], lookback: int) -> str:
    """Return what was known of the context series at the close of `as_of`, in a sentence; empty without series.

    Raises:
        StoreError: the store cannot be read.
    """
    if not symbols:
        return ""
    place = run.calendar.position(as_of)
    sessions = run.calendar.sessions[max(place - lookback + 1, 0) : place + 1]
    context = read_context(run, sessions, seq, symbols)
    parts = [f"{symbol} {_describe_known(each)}" for symbol, each in context.join(sessions).items()]
    return f"Context as known at the close of {as_of:%Y-%m-%d}: {', '.join(parts)}."


def _describe_known(joined: Joined) -> str:
    session, carried, lacking = joined.session[-1], joined.is_carried, np.isnan(joined.value)
    text = "missing" if lacking[-1] else f"of {session:%Y-%m-%d}"
    text += " (carried: the value due is missing)" if carried[-1] else ""
    for what, often in (("carried", int(carried[:-1].sum())), ("missing", int(lacking[:-1].sum()))):
        text += f" ({what} on {often} of the {len(carried) - 1} sessions before)" if often else ""
    return text


def explain_masked(
    run: Run, as_of: pd.Timestamp, seq: int, symbols: list[str], chosen: FeatureSet, lookback: int
) -> dict[str, str]:
    """Return, by symbol, which features are not finite in the window that ends with `as_of`; others are left out.

    Raises:
        StoreError: there are no prices.
    """
    if not symbols:
        return {}
    first = max(run.calendar.position(as_of) - lookback - 2 * chosen.reach, 0)
    panel = price_panel(run, as_of, seq, since=run.calendar.sessions[first], series=chosen.context)
    return dict(describe_masked(panel, chosen, run.universe, symbols, last=lookback))
