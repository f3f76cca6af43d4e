"""The members of an ensemble: one network with many sets of weights, run in one compiled graph.

The graph is compiled once a process and network: the weights are its arguments, and the input scale, which differs from
fit to fit, is applied before it.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.cores import count_cores
from models.ensembles.model_files import make_reproducible, member_file
from models.errors import ModelError
from models.networks.network import Network
from models.networks.recurrent import build, build_deployable
from models.scaling import Scaling
from models.training.trainer import DivergenceError, Weights
from models.windows import gather_windows, labelled_rows, usable_rows

__all__ = ["Members", "calibration_rows", "keep_last_good"]


# Windows always pass through the graph this many at a time, filled up with zeros: one compiled shape gives a
# row the same logits whether it comes alone at night or with ten years around it.
_BATCH: Final = 512
# So do histories, of at most so many symbols at a time and a multiple of so many, in a length that is a multiple of so
# many sessions.
_SYMBOLS: Final = 64
_ROUND: Final = 4
_SESSIONS: Final = 256
_Batch = tuple[NDArray[np.float32], Any]
"""Inputs of a run of the graph, and the index of the rows that are asked for in what comes out."""


@dataclass(frozen=True)
class Members:
    """Sets of weights for one network.

    Attributes:
        network: What it is.
        scaling: Its input scale.
        weights: One list of arrays a member, in the order of the network's trainable variables.
    """

    network: Network
    scaling: Scaling
    weights: list[Weights]

    def usable(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the rows that can be forecast, bool [symbol, session]."""
        return usable_rows(mask, self.network.lookback, self.network.mode)

    def logits(
        self, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Return the logits [member, row, horizon] of the usable rows of x with the flat numbers `rows`, ascending.

        x is unscaled. Windowed, each row is forecast from its own window. In sequence mode the network runs once over
        every symbol's valid sessions, from the first of the block and a state of zero, whatever rows are asked for.
        """
        if not len(rows):
            return np.empty((len(self.weights), 0, self.network.horizons), dtype=np.float32)
        batches = (
            self._windows(x, rows) if self.network.mode == "windowed" else self._histories(x, mask, rows)
        )
        run = partial(_run, _compile_forward(self.network), self._tensors, self.scaling)
        # TensorFlow computes a batch on one thread, and without Python's lock: each core takes its own.
        with ThreadPoolExecutor(count_cores()) as cores:
            return np.concatenate([*cores.map(run, batches)], axis=1)

    def save(self, directory: Path) -> None:
        """Write member-<k>.keras for each member, from 1."""
        model = build_deployable(self.network, self.scaling)
        for number, weights in enumerate(self.weights, start=1):
            model.set_weights(weights)
            model.save(directory / member_file(number))
            make_reproducible(directory / member_file(number))

    def _windows(self, x: NDArray[np.float32], rows: NDArray[np.int32]) -> Iterator[Callable[[], _Batch]]:
        for start in range(0, len(rows), _BATCH):
            yield partial(_gather, x, rows[start : start + _BATCH], self.network.lookback)

    def _histories(
        self, x: NDArray[np.float32], mask: NDArray[np.bool_], rows: NDArray[np.int32]
    ) -> Iterator[Callable[[], _Batch]]:
        wanted = np.zeros(mask.shape, dtype=bool)
        wanted.reshape(-1)[rows] = True
        asked = np.flatnonzero(wanted.any(axis=1))
        size = _share_out(len(asked))
        for start in range(0, len(asked), size):
            yield partial(_close_up, x, mask, wanted, asked[start : start + size], size)

    @cached_property
    def _tensors(self) -> list[list[tf.Tensor]]:
        return [[tf.constant(array) for array in weights] for weights in self.weights]


@lru_cache(maxsize=2)
def _compile_forward(network: Network) -> tf.types.experimental.PolymorphicFunction:
    """Return weights and scaled inputs in, logits out."""
    core = build(network, seed=0)

    def forward(weights: list[tf.Tensor], inputs: tf.Tensor) -> tf.Tensor:
        return core.stateless_call(weights, core.non_trainable_variables, inputs)[0]

    return tf.function(forward, autograph=False, jit_compile=True)


def _run(
    forward: Callable[..., tf.Tensor],
    members: list[list[tf.Tensor]],
    scaling: Scaling,
    gather: Callable[[], _Batch],
) -> NDArray[np.float32]:
    """Return the logits [member, row, horizon] of a batch, which is gathered only now."""
    inputs, asked = gather()
    scaled = tf.constant(scaling.apply_as_saved(inputs))
    return np.stack([forward(weights, scaled).numpy()[asked] for weights in members])


def _gather(x: NDArray[np.float32], rows: NDArray[np.int32], lookback: int) -> _Batch:
    windows = np.zeros((_BATCH, lookback, x.shape[-1]), dtype=np.float32)
    windows[: len(rows)] = gather_windows(x, rows, lookback)
    return windows, slice(len(rows))


def _close_up(
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    symbols: NDArray[np.int64],
    size: int,
) -> _Batch:
    valid = mask[symbols]
    histories = np.zeros((size, -(-mask.shape[1] // _SESSIONS) * _SESSIONS, x.shape[-1]), dtype=np.float32)
    symbol, step = np.nonzero(valid)[0], (np.cumsum(valid, axis=1) - 1)[valid]
    histories[symbol, step] = x[symbols][valid]
    inside = wanted[symbols][valid]
    return histories, (symbol[inside], step[inside])


def _share_out(symbols: int) -> int:
    """Return how many symbols pass at a time: the same in every batch, and few numbers, for each is compiled once."""
    batches = -(-symbols // _SYMBOLS)
    return -(-symbols // batches // _ROUND) * _ROUND


def keep_last_good(
    lost: DivergenceError, network: Network, scaling: Scaling, folder: Path | None
) -> DivergenceError:
    """Save the last good weights of a training that diverged as a network, and return the error that names the file.

    Raises:
        ModelError: if the disk refuses.
    """
    if folder is None or not lost.weights:
        return lost
    path = folder / f"seed-{lost.seed}-before-epoch-{lost.epoch}.keras"
    model = build_deployable(network, scaling)
    model.set_weights(lost.weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        model.save(path)
    except OSError as error:
        raise ModelError(
            f"{lost.what}, and its last good weights cannot be saved: {error.strerror or error}",
            where=str(path),
            fix=lost.fix,
        ) from None
    make_reproducible(path)
    lost.where = f"{lost.where}; its last good weights are in {path}"
    return lost


def calibration_rows(
    members: Members,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    sessions: range,
    start: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Return logits [member, row, horizon], labels [row, horizon] and session numbers [row] of `sessions`.

    The network is run from `start` on, as for every later forecast.
    """
    x, mask, y = x[:, start:], mask[:, start:], y[:, start:]
    inside = range(sessions.start - start, sessions.stop - start)
    rows = labelled_rows(members.usable(mask), y, inside, "calibrate")
    return members.logits(x, mask, rows), y.reshape(-1, y.shape[-1])[rows], rows % mask.shape[1]
