"""Which rows of a panel a model may use, and the sessions that it reads for each.

A panel is a block x [symbol, session, feature]. A row is one (symbol, session), named by its flat number
symbol * sessions + session. Windowed, a network reads that session and the `lookback - 1` before it, all of them
valid. In sequence mode it reads every valid session of the symbol so far, with the gaps closed up: a session that is
not valid (not yet listed, suspended, without a bar) is skipped, and changes neither state nor loss.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError

__all__ = [
    "RUN_IN",
    "Mode",
    "Spans",
    "check_panel",
    "closed_up",
    "cut_into_chunks",
    "example_spans",
    "first_session",
    "gather_windows",
    "labelled_rows",
    "share_of_ups",
    "start_of_run",
    "usable_rows",
]

Mode = Literal["windowed", "sequence"]

Spans = NDArray[np.int32]
"""(first, stop) places, int32 [span, 2]."""

RUN_IN: Final = 756
"""Sessions (three years) that a network in sequence mode reads before the first row that it is judged on."""


def usable_rows(mask: NDArray[np.bool_], lookback: int, mode: Mode) -> NDArray[np.bool_]:
    """Return the rows that can be forecast, [symbol, session].

    Args:
        mask: [symbol, session], true where the row is valid.
        lookback: Sessions that a row needs, its own included.
        mode: windowed: the last `lookback` sessions are all valid; sequence: the row is valid, and so are `lookback`
            sessions since the first of the block.
    """
    if mode == "sequence":
        return mask & (np.cumsum(mask, axis=1) >= lookback)
    usable = np.zeros(mask.shape, dtype=bool)
    if mask.shape[1] >= lookback:
        windows = np.lib.stride_tricks.sliding_window_view(mask, lookback, axis=1)
        usable[:, lookback - 1 :] = windows.all(axis=-1)
    return usable


def start_of_run(mode: Mode, stop: range, lookback: int) -> int | None:
    """Return the session at which a fitted network starts, from zero state; None in windowed mode, which has none.

    It is fixed with the fit, so that a row has the same forecast on every later day. In every fit it lies RUN_IN
    sessions and a lookback before the stop range, the first range that judges the network.
    """
    return max(stop.start - RUN_IN - lookback + 1, 0) if mode == "sequence" else None


def first_session(start: int | None, lookback: int, row: int) -> int:
    """Return the first session read by forecasts of session `row` and later: `start`, or the first of its window."""
    return max(row - lookback + 1, 0) if start is None else start


def closed_up(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the flat numbers of the valid rows in reading order: symbol by symbol, gaps closed up."""
    return np.flatnonzero(mask).astype(np.int32)


def example_spans(mask: NDArray[np.bool_], rows: NDArray[np.int32], lookback: int, *, joined: bool) -> Spans:
    """Return the places in `closed_up(mask)` of the examples whose labels are those of `rows`.

    Args:
        mask: [symbol, session], true where the row is valid.
        rows: Flat numbers of usable rows, ascending.
        lookback: Sessions up to the first label of an example, its own included.
        joined: One span per symbol, from `lookback - 1` sessions before its first label to its last label, instead of
            one per row. A span never reaches beyond the last of `rows`.
    """
    place = (np.cumsum(mask) - 1)[rows]
    first, stop = place - lookback + 1, place + 1
    if joined:
        symbol = rows // mask.shape[1]
        begins = np.flatnonzero(np.diff(symbol, prepend=-1))
        ends = np.append(begins[1:], len(rows)) - 1
        first, stop = first[begins], stop[ends]
    return np.stack([first, stop], axis=1).astype(np.int32)


def cut_into_chunks(spans: Spans, steps: int, lookback: int, shift: NDArray[np.int64]) -> Spans:
    """Cut spans into chunks of at most `steps` places, so that every label belongs to exactly one chunk.

    Neighbours overlap in the `lookback - 1` places whose labels do not count.

    Args:
        spans: Places of the examples, [span, 2].
        steps: Maximum places per chunk, at least `lookback`.
        lookback: Places up to the first label of a chunk, its own included.
        shift: [span], in [0, steps - lookback]: how much earlier than the first label of a span its first chunk of
            labels would begin. It moves the borders between chunks.
    """
    labels = steps - lookback + 1
    first_label = spans[:, 0] + lookback - 1 - shift
    count = -((first_label - spans[:, 1]) // labels)
    of = np.repeat(np.arange(len(spans)), count)
    number = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    begin = first_label[of] + number * labels
    first = np.maximum(begin - lookback + 1, spans[of, 0])
    return np.stack([first, np.minimum(begin + labels, spans[of, 1])], axis=1).astype(np.int32)


def labelled_rows(
    usable: NDArray[np.bool_], y: NDArray[np.float32], sessions: range, name: str
) -> NDArray[np.int32]:
    """Return the flat numbers of the usable rows of `sessions` that have a label at any horizon.

    Args:
        usable: [symbol, session], of `usable_rows`.
        y: [symbol, session, horizon] in {0, 1}, NaN where unknown.
        sessions: Consecutive session numbers.
        name: The range's name in the error message.

    Raises:
        ModelError: a horizon has no label in this range.
    """
    inside = np.zeros(usable.shape[1], dtype=bool)
    inside[sessions.start : sessions.stop] = True
    known = ~np.isnan(y) & (usable & inside)[:, :, None]
    if not known.any(axis=(0, 1)).all():
        raise ModelError(
            f"the {name} range has no row with both a full window and a label",
            where=f"sessions {sessions.start} to {sessions.stop - 1} of {usable.shape[1]}",
            fix="give the range more sessions, shorten the lookback, or add symbols with more history",
        )
    return np.flatnonzero(known.any(axis=-1)).astype(np.int32)


def share_of_ups(y: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the share of ups among the known labels of `rows`, [horizon]."""
    return np.asarray(np.nanmean(y.reshape(-1, y.shape[-1])[rows], axis=0, dtype=np.float64))


def gather_windows(x: NDArray[np.float32], rows: NDArray[np.int32], lookback: int) -> NDArray[np.float32]:
    """Return the windows [row, lookback, feature] that end at the flat numbers `rows` of x."""
    windows: NDArray[np.float32] = x.reshape(-1, x.shape[-1])[rows[:, None] + np.arange(1 - lookback, 1)]
    return windows


def check_panel(x: NDArray[np.float32], mask: NDArray[np.bool_], features: int) -> None:
    """Raise unless x is [symbol, session, features], fits its mask, and is finite wherever the mask holds.

    Raises:
        ModelError: the shapes differ, or a valid value is not finite; names the shapes or the first such value.
    """
    if x.shape != (*mask.shape, features):
        raise ModelError(
            f"x has shape {x.shape}, expected {(*mask.shape, features)}: mask and {features} features"
        )
    broken = ~np.isfinite(x) & mask[:, :, None]
    if broken.any():
        symbol, session, feature = np.argwhere(broken)[0]
        raise ModelError(
            f"x has {int(broken.sum())} values that are not finite in rows that the mask calls valid",
            where=f"first at symbol {symbol}, session {session}, feature {feature}",
            fix="mask the row, or fix the feature",
        )
