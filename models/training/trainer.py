"""The training loop of both modes: epochs, early stopping, the best weights of a member, and its second fit.

A chunk is a run of valid sessions of one symbol. Its labels count in the loss from the `lookback`-th session on; the
sessions before only warm up the state. Windowed training uses chunks of `lookback` sessions, with one label each.
Sequence training cuts each symbol's history into longer chunks, with other borders every epoch, and so pays for one
warm-up per chunk instead of one per label.

Early stopping looks at the stop loss smoothed over a few epochs: the loss of a single epoch on one year of dependent
rows is noise, and the best of many would mostly be the luckiest.

A member may be fitted a second time, from the beginning, for as many epochs as were best, on all rows before the test:
stopping and calibration have told how long and how far to trust it, and need their sessions no longer.

The steps themselves run in the compiled graphs of `models.training.graphs`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import logit

from models.devices import Device, on_device
from models.errors import ModelError
from models.networks.network import Network
from models.networks.recurrent import build_to_train
from models.training.graphs import STEPS, Data, Graphs, Regularization
from models.windows import Spans, cut_into_chunks

__all__ = ["DivergenceError", "Epoch", "Examples", "Run", "Trainer", "Training", "Weights"]

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: Maximum number of passes over the training rows.
        batch_size: Labels per step, approximately: a step takes as many whole chunks as fit, at least one.
        chunk: Sessions per chunk in sequence mode; a windowed chunk has `lookback` sessions.
        learning_rate: Step size of Adam (Kingma and Ba 2015).
        schedule: constant; or cosine: from `learning_rate` to zero over `epochs` (Loshchilov and Hutter 2017).
        clip_norm: Bound on the norm of all gradients together (Pascanu et al. 2013).
        patience: Epochs without a better smoothed log loss on the stop range before training ends.
        smooth_epochs: Epochs whose mean log loss on the stop range decides: the last ones; 1: each alone.
        dropout, weight_decay, adversarial: See Regularization.
        device: Where: the numbers of a GPU differ from those of the processor by rounding.
    """

    epochs: int = 20
    batch_size: int = 256
    chunk: int = 252
    learning_rate: float = 3e-4
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float = 1.0
    patience: int = 4
    smooth_epochs: int = 3
    dropout: float = 0.0
    weight_decay: float = 0.0
    adversarial: float = 0.0
    device: Device = "cpu"

    @property
    def regularization(self) -> Regularization:
        """What keeps the network from learning noise by heart."""
        return Regularization(self.dropout, self.weight_decay, self.adversarial)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as they are saved; parts that earlier versions lack are left out where they are off."""
        unused = [name for name, value in asdict(self.regularization).items() if not value]
        unused += ["device"] * (self.device == "cpu")
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.epochs))

    def chunk_of(self, network: Network) -> int:
        """Return the sessions per chunk of a network in its mode."""
        return self.chunk if network.mode == "sequence" else network.lookback


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch of one member.

    Attributes:
        member: Number of the member, from 1.
        members: How many there are.
        epoch: Number of the epoch, from 1; in a second fit it goes on from the last one of the first.
        epochs: Maximum number of epochs, of both fits together.
        loss: Mean log loss of the training labels, in nats, each step before its update.
        hit_rate: Share of training labels on the right side of p = 0.5.
        stop_loss: Mean log loss on the stop range after the epoch; NaN in a second fit, which learns from it.
        stop_hit_rate: Hit rate on the stop range after the epoch; NaN in a second fit.
        gradient_norm: Mean norm of all gradients together, before clipping.
        is_last: Whether the member's training ends with this epoch.
    """

    member: int
    members: int
    epoch: int
    epochs: int
    loss: float
    hit_rate: float
    stop_loss: float
    stop_hit_rate: float
    gradient_norm: float
    is_last: bool = False


@dataclass(frozen=True)
class Examples:
    """The examples that all members of one fit are trained on.

    Attributes:
        panel: Scaled features, float32 [symbol * session, feature].
        labels: float32 [symbol * session, horizon] in {0, 1}, NaN where unknown.
        order: Flat numbers of the valid rows in reading order, int32 [place].
        train: Places in `order` to train on, (first, stop), int32 [example, 2]: windows, or in sequence mode spans
            of any length that training cuts into chunks.
        stop: Places that decide when to stop, in the same form.
        base_rate: Share of ups among the training labels, [horizon].
        refit: Places of a second fit, in the form of `train`; empty: there is none.
        refit_base_rate: Share of ups among its labels, [horizon]; empty without one.
        weights: How much each row counts in what is learned, float32 [symbol * session]; empty: all the same.
    """

    panel: NDArray[np.float32]
    labels: NDArray[np.float32]
    order: NDArray[np.int32]
    train: Spans
    stop: Spans
    base_rate: NDArray[np.float64]
    refit: Spans = field(default_factory=lambda: np.empty((0, 2), np.int32))
    refit_base_rate: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    weights: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))


class Run(NamedTuple):
    """A trained member.

    Attributes:
        weights: Its best weights, by smoothed log loss on the stop range.
        epochs: Every epoch of its first fit.
        refitted: The weights of its second fit; empty if there was none.
    """

    weights: Weights
    epochs: list[Epoch]
    refitted: Weights


class DivergenceError(ModelError):
    """The loss or the gradient of a training is no longer finite.

    Attributes:
        weights: The best weights until then, by log loss on the stop range; empty if there were none yet.
        member: Number of the member, from 1.
        seed: Its seed.
        epoch: The epoch in which it happened, from 1.
        row: The symbol's row in the block, where each symbol has its own network.
    """

    row: int | None = None

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        fix: str = "",
        weights: Weights | None = None,
        member: int = 0,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.weights, self.member, self.seed, self.epoch = weights or [], member, seed, epoch


@dataclass(frozen=True)
class _Pass:
    """Means over one pass."""

    loss: float
    hit_rate: float
    gradient_norm: float


class Trainer:
    """Trains one member after another; not thread-safe.

    Every run starts with a fresh optimizer, from weights that depend on its seed alone, or from given weights.

    Args:
        network: What is trained.
        training: How.
        graphs: The compiled graphs to use, of the same network, chunk, clip norm and regularization: trainings that
            differ in nothing else can share them, one after another. Default: new ones.

    Raises:
        ModelError: the chunk is no longer than the lookback.
    """

    def __init__(self, network: Network, training: Training, graphs: Graphs | None = None) -> None:
        if network.mode == "sequence" and training.chunk <= network.lookback:
            raise ModelError(
                f"a chunk of {training.chunk} sessions leaves no room for labels after a lookback of "
                f"{network.lookback}",
                where="[training] chunk, [model] lookback",
                fix="make the chunk a few times as long as the lookback",
            )
        self._network, self._training = network, training
        self._chunk = training.chunk_of(network)
        self._labels_per_chunk = self._chunk - network.lookback + 1
        self._chunks_per_step = max(training.batch_size // self._labels_per_chunk, 1)
        self._graphs = graphs or Graphs(
            network, self._chunk, training.clip_norm, training.regularization, training.device
        )

    def train(
        self,
        examples: Examples,
        seed: int,
        *,
        member: int = 1,
        members: int = 1,
        progress: Callable[[Epoch], None] | None = None,
        start: Weights | None = None,
    ) -> Run:
        """Train one member; where the examples have rows for it, a second time on all of them.

        Args:
            examples: The examples of the fit.
            seed: Decides the initial weights and the order of the steps.
            member: Its number, from 1.
            members: How many there are.
            progress: Called after every epoch.
            start: Initial weights of a warm start, instead of those of the seed.

        Raises:
            DivergenceError: the loss is no longer finite.
        """
        most = self._training.epochs * (2 if len(examples.refit) else 1)
        report = _Report(member, members, seed, most, progress or (lambda epoch: None))
        data = self._load(examples)
        chosen = self._stop_early(examples, data, seed, start, report)
        first = list(report.epochs)
        refitted = self._refit(examples, data, seed, start, chosen, report) if len(examples.refit) else []
        return Run(report.best, first, refitted)

    def _stop_early(
        self, examples: Examples, data: Data, seed: int, start: Weights | None, report: "_Report"
    ) -> int:
        """Train until the smoothed stop loss no longer falls; return the number of the best epoch."""
        self._reset(seed, examples.base_rate, start)
        rng = np.random.default_rng(seed)
        stop_chunks = self._cut(examples.stop, np.zeros(len(examples.stop), np.int64))
        best_loss, chosen = np.inf, 0
        losses: list[float] = []
        for number in range(1, self._training.epochs + 1):
            learned = self._learn(examples.train, data, rng, number)
            stopped = self._run(self._graphs.measure, data, stop_chunks)
            losses.append(stopped.loss)
            smoothed = float(np.mean(losses[-self._training.smooth_epochs :]))
            is_better = smoothed < best_loss
            if is_better:
                best_loss, chosen = smoothed, number
            ends = number - chosen >= self._training.patience or number == self._training.epochs
            report.add(learned, stopped, is_last=ends and not len(examples.refit))
            if is_better:
                report.best = self._graphs.core.get_weights()
            if ends:
                break
        return chosen

    def _refit(
        self,
        examples: Examples,
        data: Data,
        seed: int,
        start: Weights | None,
        epochs: int,
        report: "_Report",
    ) -> Weights:
        """Train from the beginning for so many epochs on the rows of the second fit; return the last weights."""
        self._reset(seed, examples.refit_base_rate, start)
        rng = np.random.default_rng(seed)
        for number in range(1, epochs + 1):
            report.add(self._learn(examples.refit, data, rng, number), None, is_last=number == epochs)
        weights: Weights = self._graphs.core.get_weights()
        return weights

    def _load(self, examples: Examples) -> Data:
        """Return the graph's inputs as tensors: they are copied into TensorFlow once, not every epoch."""
        order = np.zeros(len(examples.panel), np.int32)  # padded: one shape for folds of any length
        order[: len(examples.order)] = examples.order
        weights = [examples.weights] * bool(len(examples.weights))
        return tuple(tf.constant(part) for part in (examples.panel, examples.labels, order, *weights))

    def _learn(self, spans: Spans, data: Data, rng: np.random.Generator, epoch: int) -> _Pass:
        """Learn from every label of the spans once, in another order in each epoch."""
        self._graphs.set_rate(self._training.rate(epoch))
        chunks = self._cut(spans, rng.integers(self._labels_per_chunk, size=len(spans)))
        return self._run(self._graphs.learn, data, rng.permutation(chunks))

    def _cut(self, spans: Spans, shift: NDArray[np.int64]) -> Spans:
        return cut_into_chunks(spans, self._chunk, self._network.lookback, shift)

    def _reset(self, seed: int, base_rate: NDArray[np.float64], start: Weights | None) -> None:
        with on_device("cpu"):  # every device starts from the same weights, to the last bit
            weights = start or build_to_train(self._network, seed).get_weights()
        if start is None:
            # The last weight is the bias of the logits: an untrained network predicts the base rate, and calibration,
            # which scales logits relative to it, leaves that unchanged.
            weights[-1] = np.asarray(logit(np.clip(base_rate, 0.01, 0.99)), np.float32)
        self._graphs.restart(weights, seed)

    def _run(self, graph: Callable[..., tf.Tensor], data: Data, chunks: Spans) -> _Pass:
        steps = -(-len(chunks) // self._chunks_per_step)
        filled = np.full((-(-steps // STEPS) * STEPS * self._chunks_per_step, 2), -1, np.int32)
        filled[: len(chunks)] = chunks
        total = np.zeros(4)
        for number, batches in enumerate(filled.reshape(-1, STEPS, self._chunks_per_step, 2)):
            left = tf.constant(min(steps - number * STEPS, STEPS))
            total += graph(data, tf.constant(batches), left).numpy()
        loss, hits, known, norm = total
        return _Pass(float(loss / known), float(hits / known), float(norm / steps))


@dataclass
class _Report:
    """The epochs of a member so far, which must stay finite, and its best weights."""

    member: int
    members: int
    seed: int
    most: int
    progress: Callable[[Epoch], None]
    best: Weights = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)

    def add(self, learned: _Pass, stopped: _Pass | None, *, is_last: bool) -> None:
        """Keep and report an epoch.

        Raises:
            DivergenceError: a number is not finite.
        """
        number = len(self.epochs) + 1
        known = [learned.loss, learned.gradient_norm, *([stopped.loss] if stopped else [])]
        if not np.isfinite(known).all():
            raise DivergenceError(
                f"training diverged: loss {learned.loss}, gradient norm {learned.gradient_norm}"
                + (f", stop loss {stopped.loss}" if stopped else " in the second fit"),
                where=f"member {self.member} of {self.members} (seed {self.seed}), epoch {number}",
                fix="lower the learning rate or the clip norm, and check for extreme feature values",
                weights=self.best,
                member=self.member,
                seed=self.seed,
                epoch=number,
            )
        stop_loss, stop_hit_rate = (stopped.loss, stopped.hit_rate) if stopped else (math.nan, math.nan)
        epoch = Epoch(
            *(self.member, self.members, number, self.most),
            *(learned.loss, learned.hit_rate, stop_loss, stop_hit_rate, learned.gradient_norm),
            is_last=is_last,
        )
        self.epochs.append(epoch)
        self.progress(epoch)
