"""Leakage checks of features: a session's features must depend neither on later bars nor on the order of rows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.leakage_check import CheckResult, leakage_check
from pipeline.features.columns import FeatureSet
from pipeline.features.context import Context
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.panel import build_panel
from pipeline.features.sequences import Sequences, build_sequences
from pipeline.market.universe import Universe
from pipeline.outputs import Output, describe_output
from pipeline.prices.bar_block import COLUMNS, Block, build_block
from pipeline.statistics.metrics import mean_ranks

__all__ = ["FeatureAudit", "check_changed", "check_cut_off", "check_labels", "check_order", "check_reach"]

_ROUNDING: Final = 1e-5
"""Tolerance relative to a feature's spread and size: above single-precision rounding, below any leak."""

_NEW_START: Final = 1e-4
"""The same where sums start elsewhere: a live forecast reads a feature's reach, a training all of history."""

_LARGEST_EDGE: Final = 0.15
"""Largest plausible |AUC - 0.5| of one feature: no daily price predicts direction that well."""


@dataclass(frozen=True, eq=False)
class FeatureAudit:
    """The bars and the feature set of an audit.

    Attributes:
        block: The bars, as traded.
        features: The audited feature set.
        universe: The members by date; every symbol of it is in the block.
        outputs: What is forecast.
        context: The context series that the features read, if any.
    """

    block: Block
    features: FeatureSet
    universe: Universe
    outputs: tuple[Output, ...]
    context: Context | None = None

    def make(self, block: Block | None = None, context: Context | None = None) -> Sequences:
        """Build sequences from the bars and the context series, or from others."""
        panel = build_panel(block or self.block, context or self.context)
        return build_sequences(panel, self.features, self.universe, self.outputs)

    def cuts(self, known: Sequences, count: int) -> list[int]:
        """Return the numbers of up to `count` sessions to cut at, spread over the sessions with features."""
        first, last = int(known.mask.any(axis=0).argmax()), len(known.sessions) - 2
        return sorted({int(cut) for cut in np.linspace(first, last, count + 1)[1:]}) if first <= last else []

    def make_through(self, last: int, first: int = 0) -> Sequences:
        """Build sequences from what was known at the close of session number `last`, from number `first` on."""
        sessions, context = self.block.sessions, self.context
        if context is not None:
            context = context.known_by(sessions[last])
        if context is not None and first:
            context = context.needed_from(sessions[first])
        return self.make(_part(self.block, first, last + 1), context)

    def make_changed(self, cut: int, rng: np.random.Generator) -> Sequences:
        """Build sequences with everything changed that became known after the close of session number `cut`."""
        block, context = _changed(self.block, cut, rng), self.context
        if context is not None:
            context = context.with_changed(
                self.block.sessions[cut], lambda value: value * rng.uniform(0.2, 5, value.shape)
            )
        return self.make(block, context)

    @property
    def tolerance(self) -> float:
        """Allowed difference when the future is changed: none for nextday's own sets, which promise exact equality."""
        return 0.0 if FEATURE_SETS.get(self.features.name) is self.features else _ROUNDING


@leakage_check(
    "features: future cut off",
    "Features, masks and labels were computed again from what was known at the close of a session alone.",
)
def check_cut_off(audit: FeatureAudit, known: Sequences, count: int) -> CheckResult:
    """Check that a session's features are the same without the later bars."""
    parts = ((cut, audit.make_through(cut)) for cut in audit.cuts(known, count))
    return _compare_all(
        ((known.through(known.sessions[cut]), again) for cut, again in parts), audit.tolerance
    )


@leakage_check(
    "features: future changed",
    "Every bar after a session was changed (prices, volumes, splits, dividends), and the features computed again.",
)
def check_changed(audit: FeatureAudit, known: Sequences, count: int) -> CheckResult:
    """Check that a session's features are the same when the later bars are changed."""
    rng = np.random.default_rng(0)
    pairs = (
        (
            known.through(known.sessions[cut]),
            audit.make_changed(cut, rng).through(known.sessions[cut]),
        )
        for cut in audit.cuts(known, count)
    )
    result = _compare_all(pairs, audit.tolerance)
    absent = [name for name in ("open", "high", "low") if np.isnan(audit.block[name]).all()]
    if not absent:
        return result
    unseen = f"no bar has {', '.join(absent)}: a leak through what is missing cannot be seen"
    return replace(result, evidence=f"{result.evidence}; {unseen}")


@leakage_check(
    "features: reach",
    "The features of single sessions were computed again from only as many earlier bars as the set says it needs.",
)
def check_reach(audit: FeatureAudit, known: Sequences, count: int) -> CheckResult:
    """Check that a live forecast, which reads no more than `reach`, gets the same features as a training."""
    reach, last = audit.features.reach, len(known.sessions) - 1
    rows = sorted({int(row) for row in np.linspace(reach, last, count)}) if reach < last else []
    if not rows:
        return CheckResult("not applicable", f"{last + 1} sessions are no more than the reach of {reach}")
    pairs = (
        (
            _rows(known, row, row + 1),
            _rows(audit.make_through(row, row - reach), reach, reach + 1),
        )
        for row in rows
    )
    return _compare_all(((replace(a, y=b.y), b) for a, b in pairs), _NEW_START)


@leakage_check(
    "features: order of rows and symbols",
    "The features were computed from the same bars again, newest first, shuffled, and with the symbols reversed.",
)
def check_order(audit: FeatureAudit, known: Sequences) -> CheckResult:
    """Check that features depend on nothing but the bars: not on order, and not on chance."""
    rng = np.random.default_rng(0)
    rows = _as_rows(audit.block)
    newest_first = rows.take(pa.array(np.arange(rows.num_rows)[::-1]))
    shuffled = rows.take(pa.array(rng.permutation(rows.num_rows)))
    again = (audit.make(_build_again(batch, audit.block)) for batch in (rows, newest_first, shuffled))
    result = _compare_all(((known, one) for one in again), audit.tolerance)
    if result.status == "failed":
        return result
    reversed_order = np.arange(len(known.symbols))[::-1]
    by_symbol = _compare_all(
        [(_reorder(known, reversed_order), audit.make(_reorder_block(audit.block, reversed_order)))],
        _NEW_START,
    )
    return result if by_symbol.status == "passed" else by_symbol


@leakage_check(
    "features: none knows the label",
    "For each feature and output, the AUC was computed on the sessions before the test: the share of pairs of a rise "
    "and a fall that the feature ranks correctly.",
)
def check_labels(known: Sequences, rows: range) -> CheckResult:
    """Check that no feature predicts the label better than prices can: one that does has seen it.

    Args:
        known: The sequences of all sessions.
        rows: Session numbers to use: those before the test, which stays untouched.
    """
    worst, evidence = 0.0, ""
    for place, output in enumerate(known.outputs):
        part = slice(rows.start, rows.stop)
        y, x = known.y[:, part, place], known.x[:, part]
        chosen = known.mask[:, part] & np.isfinite(y)
        limit = _limit(int(chosen.any(axis=0).sum()), output.horizon)
        for column, name in enumerate(known.features):
            share = _auc(x[:, :, column][chosen], y[chosen])
            if abs(share - 0.5) / limit > worst:
                worst = abs(share - 0.5) / limit
                evidence = f"{name} ranks {share:.1%} of the pairs correctly, {describe_output(output)}; "
                evidence += f"{0.5 - limit:.0%} to {0.5 + limit:.0%} are plausible"
    if not evidence:
        return CheckResult("not applicable", "no feature varies on rows with both rises and falls")
    return CheckResult("failed" if worst > 1 else "passed", f"the most predictive feature: {evidence}")


def _limit(sessions: int, horizon: int) -> float:
    """Return the largest plausible |AUC - 0.5|: five standard errors of independent sessions, at least _LARGEST_EDGE.

    The AUC of n labels, half of them rises, has the standard error sqrt(1 / (3 n)) (Mann and Whitney 1947).
    """
    independent = max(sessions / horizon, 1.0)
    return float(min(max(_LARGEST_EDGE, 5 / np.sqrt(3 * independent)), 0.5))


def _auc(values: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Return the AUC of a feature, with ties counted half; 0.5 if all labels are equal."""
    ups = y > 0.5
    rises, falls = int(ups.sum()), int((~ups).sum())
    if not rises or not falls:
        return 0.5
    wins = mean_ranks(values.astype(float))[ups].sum() - rises * (rises + 1) / 2
    return float(wins / (rises * falls))


def _compare_all(pairs: Iterable[tuple[Sequences, Sequences]], tolerance: float) -> CheckResult:
    values, largest, compared = 0, 0.0, 0
    for known, again in pairs:
        offence = _first_offence(known, again, tolerance)
        if offence:
            return CheckResult("failed", offence)
        compared += 1
        values += int(known.mask.sum()) * len(known.features)
        largest = max(largest, float(np.abs(known.x - again.x).max(initial=0.0)))
    if not compared:
        return CheckResult("not applicable", "no session has features")
    same = "bit for bit equal" if largest == 0 else f"largest difference {largest:.1e}, rounding"
    return CheckResult("passed", f"{compared} comparisons of {values:,} values: {same}")


def _first_offence(known: Sequences, again: Sequences, tolerance: float) -> str:
    """Return the first symbol, session and feature that differs, by time; empty if none does."""
    rows = known.mask != again.mask
    if rows.any():
        session, symbol = np.argwhere(rows.T)[0]
        change = "is missing" if known.mask[symbol, session] else "is new"
        return f"{known.symbols[symbol]} {known.sessions[session]:%Y-%m-%d}: the row {change} in the second computation"
    spread = known.x[known.mask].std(axis=0) if known.mask.any() else np.zeros(len(known.features))
    moved = np.abs(known.x - again.x) > tolerance * (spread + np.abs(known.x))
    if moved.any():
        session, symbol, column = np.argwhere(moved.transpose(1, 0, 2))[0]
        was, became = known.x[symbol, session, column], again.x[symbol, session, column]
        return (
            f"{known.symbols[symbol]} {known.sessions[session]:%Y-%m-%d}, {known.features[column]}: {was:.6g} "
            f"became {became:.6g}"
        )
    labels = ~((known.y == again.y) | (np.isnan(known.y) & np.isnan(again.y)))
    if labels.any():
        session, symbol, _ = np.argwhere(labels.transpose(1, 0, 2))[0]
        return f"{known.symbols[symbol]} {known.sessions[session]:%Y-%m-%d}: the label changed"
    return ""


def _part(block: Block, first: int, stop: int) -> Block:
    return replace(block, values=block.values[first:stop], sessions=block.sessions[first:stop])


def _rows(known: Sequences, first: int, stop: int) -> Sequences:
    part = slice(first, stop)
    return replace(
        known,
        x=known.x[:, part],
        mask=known.mask[:, part],
        y=known.y[:, part],
        sessions=known.sessions[part],
    )


def _changed(block: Block, cut: int, rng: np.random.Generator) -> Block:
    """Return the bars with every price, volume, split and dividend after `cut` changed."""
    values = np.array(block.values, np.float64)
    later = values[cut + 1 :]
    columns = {name: number for number, name in enumerate(COLUMNS)}
    later[:, :, : columns["dividend"]] *= rng.uniform(0.2, 5, (*later.shape[:2], 1))
    has_bar = ~np.isnan(later[:, :, columns["close"]])
    later[:, :, columns["dividend"]] = np.where(has_bar, 0.01 * later[:, :, columns["close"]], np.nan)
    later[:1, :, columns["split"]] = np.where(has_bar[:1], 7.0, np.nan)
    return replace(block, values=values)


def _reorder_block(block: Block, order: NDArray[np.intp]) -> Block:
    return replace(block, values=block.values[:, order], symbols=[block.symbols[place] for place in order])


def _reorder(known: Sequences, order: NDArray[np.intp]) -> Sequences:
    symbols = tuple(known.symbols[place] for place in order)
    return replace(known, x=known.x[order], mask=known.mask[order], y=known.y[order], symbols=symbols)


def _as_rows(block: Block) -> pa.RecordBatch:
    """Return the bars as rows, in the form of the price store."""
    session, symbol = np.nonzero(~np.isnan(block.values).all(axis=2))
    frame = pd.DataFrame(block.values[session, symbol], columns=[*COLUMNS])
    frame["session"], frame["seq"] = block.sessions[session], 1
    frame["instrument_id"] = pd.Categorical(np.array(block.symbols)[symbol], categories=block.symbols)
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def _build_again(batch: pa.RecordBatch, block: Block) -> Block:
    return build_block([batch], block.symbols, block.sessions, instruments={})
