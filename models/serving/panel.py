"""Run a network over the rows of a panel, a batch of bounded size at a time."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.serving.network import ServedNetwork
from models.windows import gather_windows

__all__ = ["batches", "panel_logits"]

_NUMBERS: Final = 16_000_000
"""States and gates that a batch may hold, 128 MB of float64: each step of a small batch is mostly overhead."""


def panel_logits(
    network: ServedNetwork, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return the logits [member, row, horizon] of usable rows.

    Windowed, each row is forecast from its own window. In sequence mode the network runs once over every symbol's
    valid sessions, from the first of the block and a state of zero, whatever rows are asked for.

    Args:
        network: The network.
        x: Scaled features, float32 [symbol, session, feature].
        mask: [symbol, session], true where the row is valid.
        rows: Flat numbers of the rows, ascending.
    """
    description = network.network
    if not len(rows):
        return np.empty((network.members, 0, description.horizons))
    if description.mode == "windowed":
        parts = [
            network.logits(gather_windows(x, rows[part], description.lookback))
            for part in batches(network, len(rows), description.lookback)
        ]
        return np.concatenate(parts, axis=1)
    return _run_histories(network, x, mask, rows)


def batches(network: ServedNetwork, rows: int, sessions: int) -> list[slice]:
    """Return the batches in which the network reads `rows` windows of `sessions` sessions."""
    size = max(_NUMBERS // (sessions * network.numbers_per_session), 1)
    return [slice(start, start + size) for start in range(0, rows, size)]


def _run_histories(
    network: ServedNetwork, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
) -> NDArray[np.float64]:
    wanted = np.zeros(mask.shape, dtype=bool)
    wanted.reshape(-1)[rows] = True
    asked, parts = np.flatnonzero(wanted.any(axis=1)), []
    for part in batches(network, len(asked), mask.shape[1]):
        symbols = asked[part]
        valid = mask[symbols]
        step = np.cumsum(valid, axis=1) - 1
        histories = np.zeros((len(symbols), int(step.max()) + 1, x.shape[-1]), dtype=np.float32)
        histories[np.nonzero(valid)[0], step[valid]] = x[symbols][valid]
        symbol, session = np.nonzero(wanted[symbols])
        parts.append(network.logits(histories)[:, symbol, step[symbol, session]])
    return np.concatenate(parts, axis=1)
