"""Tripwires of features: what a session knows must not depend on what came later, nor on the order of rows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import rankdata

from pipeline.audit.leakage_check import CheckResult, leakage_check
from pipeline.features.feature_sets import FEATURE_SETS, FeatureSet
from pipeline.features.panel import build_panel
from pipeline.features.sequences import Sequences, build_sequences
from pipeline.market.universe import Universe
from pipeline.prices.bar_block import COLUMNS, Block, build_block

__all__ = ["FeatureAudit", "check_changed", "check_cut_off", "check_labels", "check_order", "check_reach"]

_ROUNDING: Final = 1e-5
"""Of a feature's spread and size: more than the last digits of single precision, less than any leak."""

_NEW_START: Final = 1e-4
"""The same where sums begin elsewhere: a live evening reads a feature's reach, a training all of history."""

_TELLING: Final = 0.15
"""How far from 0.5 the share of pairs that one feature orders rightly may lie: no daily price tells so much."""


@dataclass(frozen=True, eq=False)
class FeatureAudit:
    """Bars, and how sequences are made of them.

    Attributes:
        block: As traded.
        features: The set that is audited.
        universe: Who belongs when; every symbol of it is in the block.
        horizons: How many sessions ahead the labels lie.
    """

    block: Block
    features: FeatureSet
    universe: Universe
    horizons: tuple[int, ...]

    def make(self, block: Block | None = None) -> Sequences:
        """Make sequences of the bars, or of others."""
        panel = build_panel(block or self.block)
        return build_sequences(panel, self.features, self.universe, self.horizons)

    def cuts(self, known: Sequences, count: int) -> list[int]:
        """Return up to `count` sessions to cut at, spread over those with features."""
        first, last = int(known.mask.any(axis=0).argmax()), len(known.sessions) - 2
        return sorted({int(cut) for cut in np.linspace(first, last, count + 1)[1:]}) if first <= last else []

    @property
    def tolerance(self) -> float:
        """What may differ where the future is changed: nothing, where nextday promises it."""
        return 0.0 if FEATURE_SETS.get(self.features.name) is self.features else _ROUNDING


@leakage_check(
    "features: future cut off",
    "Features, masks and labels were made again from the bars up to a session, as if nothing had come after it.",
)
def check_cut_off(bench: FeatureAudit, known: Sequences, count: int) -> CheckResult:
    """Look whether a session's features are the same without the later bars."""
    parts = ((cut, bench.make(_part(bench.block, 0, cut + 1))) for cut in bench.cuts(known, count))
    return _compared(((known.through(known.sessions[cut]), again) for cut, again in parts), bench.tolerance)


@leakage_check(
    "features: future changed",
    "Every bar after a session was changed (prices, volumes, splits, dividends), and the features were made again.",
)
def check_changed(bench: FeatureAudit, known: Sequences, count: int) -> CheckResult:
    """Look whether a session's features are the same when the later bars are others."""
    rng = np.random.default_rng(0)
    pairs = (
        (
            known.through(known.sessions[cut]),
            bench.make(_changed(bench.block, cut, rng)).through(known.sessions[cut]),
        )
        for cut in bench.cuts(known, count)
    )
    return _compared(pairs, bench.tolerance)


@leakage_check(
    "features: reach",
    "The features of single sessions were made again from as many bars before them as the set says that it needs.",
)
def check_reach(bench: FeatureAudit, known: Sequences, count: int) -> CheckResult:
    """Look whether a live evening, which reads no more than `reach`, sees what a training sees."""
    reach, last = bench.features.reach, len(known.sessions) - 1
    rows = sorted({int(row) for row in np.linspace(reach, last, count)}) if reach < last else []
    if not rows:
        return CheckResult("not applicable", f"{last + 1} sessions are no more than a reach of {reach}")
    pairs = (
        (
            _rows(known, row, row + 1),
            _rows(bench.make(_part(bench.block, row - reach, row + 1)), reach, reach + 1),
        )
        for row in rows
    )
    return _compared(((replace(a, y=b.y), b) for a, b in pairs), _NEW_START)


@leakage_check(
    "features: order of rows and symbols",
    "The bars were handed in newest first, shuffled, with the symbols backwards, and once more as they were.",
)
def check_order(bench: FeatureAudit, known: Sequences) -> CheckResult:
    """Look whether anything but the bars themselves decides about features."""
    rng = np.random.default_rng(0)
    rows = _as_rows(bench.block)
    newest_first = rows.take(pa.array(np.arange(rows.num_rows)[::-1]))
    shuffled = rows.take(pa.array(rng.permutation(rows.num_rows)))
    again = (bench.make(_laid_out(batch, bench.block)) for batch in (rows, newest_first, shuffled))
    found = _compared(((known, one) for one in again), bench.tolerance)
    if found.status == "failed":
        return found
    backwards = np.arange(len(known.symbols))[::-1]
    turned = _compared(
        [(_arranged(known, backwards), bench.make(_with_symbols(bench.block, backwards)))], _NEW_START
    )
    return found if turned.status == "passed" else turned


@leakage_check(
    "features: none knows the label",
    "For each feature and horizon, the share of pairs of a rise and a fall that it orders rightly was counted, before "
    "the test.",
)
def check_labels(known: Sequences, rows: range) -> CheckResult:
    """Look for a feature that tells the coming move better than any price can: it has another source.

    Args:
        known: The whole block.
        rows: Sessions to look at: those before the test, which nobody looks at twice.
    """
    worst, told = 0.0, ""
    for place, horizon in enumerate(known.horizons):
        part = slice(rows.start, rows.stop)
        y, x = known.y[:, part, place], known.x[:, part]
        chosen = known.mask[:, part] & np.isfinite(y)
        limit = _limit(int(chosen.any(axis=0).sum()), horizon)
        for column, name in enumerate(known.features):
            share = _ordered(x[:, :, column][chosen], y[chosen])
            if abs(share - 0.5) / limit > worst:
                worst = abs(share - 0.5) / limit
                told = (
                    f"{name} orders {share:.1%} of the pairs rightly, {horizon} ahead; {0.5 - limit:.0%} to "
                )
                told += f"{0.5 + limit:.0%} are possible"
    if not told:
        return CheckResult("not applicable", "no feature varies beside both kinds of labels")
    return CheckResult("failed" if worst > 1 else "passed", f"the most telling one: {told}")


def _limit(sessions: int, horizon: int) -> float:
    """Return how far from 0.5 an honest share may lie: five standard errors of sessions that do not overlap, at least.

    Of n labels, half of them rises, the share has the standard error sqrt(1 / (3 n)) (Mann and Whitney 1947).
    """
    apart = max(sessions / horizon, 1.0)
    return float(min(max(_TELLING, 5 / np.sqrt(3 * apart)), 0.5))


def _ordered(values: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Return the area under the curve of a feature, ties counted half; 0.5 where there is nothing to order."""
    ups = y > 0.5
    rises, falls = int(ups.sum()), int((~ups).sum())
    if not rises or not falls:
        return 0.5
    wins = rankdata(values)[ups].sum() - rises * (rises + 1) / 2
    return float(wins / (rises * falls))


def _compared(pairs: Iterable[tuple[Sequences, Sequences]], tolerance: float) -> CheckResult:
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
    same = "bit for bit the same" if largest == 0 else f"largest difference {largest:.1e}, rounding"
    return CheckResult("passed", f"{compared} times, {values:,} values: {same}")


def _first_offence(known: Sequences, again: Sequences, tolerance: float) -> str:
    """Return the first symbol, session and feature that differs, in order of time; empty where none does."""
    apart = known.mask != again.mask
    if apart.any():
        session, symbol = np.argwhere(apart.T)[0]
        side = "is there no more" if known.mask[symbol, session] else "is there only now"
        return f"{known.symbols[symbol]} {known.sessions[session]:%Y-%m-%d}: the row {side}"
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
    """Return the bars with everything after `cut` changed: no price, volume, split or dividend stays."""
    values = np.array(block.values, np.float64)
    later = values[cut + 1 :]
    columns = {name: number for number, name in enumerate(COLUMNS)}
    later[:, :, : columns["dividend"]] *= rng.uniform(0.2, 5, (*later.shape[:2], 1))
    has_bar = ~np.isnan(later[:, :, columns["close"]])
    later[:, :, columns["dividend"]] = np.where(has_bar, 0.01 * later[:, :, columns["close"]], np.nan)
    later[:1, :, columns["split"]] = np.where(has_bar[:1], 7.0, np.nan)
    return replace(block, values=values)


def _with_symbols(block: Block, order: NDArray[np.intp]) -> Block:
    return replace(block, values=block.values[:, order], symbols=[block.symbols[place] for place in order])


def _arranged(known: Sequences, order: NDArray[np.intp]) -> Sequences:
    symbols = tuple(known.symbols[place] for place in order)
    return replace(known, x=known.x[order], mask=known.mask[order], y=known.y[order], symbols=symbols)


def _as_rows(block: Block) -> pa.RecordBatch:
    """Return the bars as rows, as the store has them."""
    session, symbol = np.nonzero(~np.isnan(block.values).all(axis=2))
    frame = pd.DataFrame(block.values[session, symbol], columns=[*COLUMNS])
    frame["session"], frame["seq"] = block.sessions[session], 1
    frame["instrument_id"] = pd.Categorical(np.array(block.symbols)[symbol], categories=block.symbols)
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def _laid_out(batch: pa.RecordBatch, block: Block) -> Block:
    return build_block([batch], block.symbols, block.sessions, instruments={})
