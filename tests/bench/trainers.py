"""Processes that train or forecast when they are told to: laps of different ways take turns, and all are warm.

`python -m tests.bench.trainers` is such a process: it makes its work ready, says so, and does a lap for each line.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Load:
    """What there is to learn from, and how: GRU, made-up features and labels without a signal."""

    symbols: int = 100
    sessions: int = 1500
    features: int = 6
    units: int = 64
    lookback: int = 60
    stop: int = 126
    chunk: int = 252
    labels: int = 64 * (252 - 60 + 1)  # a step
    batch: int = 256  # windows a step
    members: int = 1

    def panel(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        shape = self.symbols, self.sessions
        x = rng.standard_normal((*shape, self.features), dtype=np.float32)
        return x, np.ones(shape, dtype=bool), (rng.random((*shape, 1)) < 0.5).astype(np.float32)


class Way:
    """Several processes that work side by side at the same thing."""

    def __init__(self, name: str, processes: int = 1, load: Load | None = None) -> None:
        """Start them; torch shares the cores out among them, nextday is of one thread by itself."""
        command = [sys.executable, "-m", "tests.bench.trainers", name]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        if name == "torch":
            quiet["OMP_NUM_THREADS"] = str(CORES // processes)
        self._children = [
            subprocess.Popen(
                [*command, json.dumps(asdict(load or Load()))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=os.environ | quiet,
            )
            for _ in range(processes)
        ]

    def wait(self) -> None:
        """Wait until all are warm."""
        for child in self._children:
            assert child.stdout.readline() == "ready\n"

    def lap(self) -> float:
        """Return how much all of them did in a second together."""
        for child in self._children:
            child.stdin.write("\n")
            child.stdin.flush()
        return sum(float(child.stdout.readline()) for child in self._children)

    def end(self) -> None:
        """Let the processes end."""
        for child in self._children:
            child.communicate()
            assert child.returncode == 0


def plain(load: Load) -> Any:
    """Return the reference: what a page of instructions would make. It knows nothing of nextday and uses all cores."""
    import keras

    shape = load.lookback, load.features
    model = keras.Sequential([keras.Input(shape), keras.layers.GRU(load.units), keras.layers.Dense(1)])
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    return model


def fit_plainly(load: Load) -> Callable[[], float]:
    model, (windows, labels) = plain(load), windows_of(load, 4096)

    def lap() -> float:
        begun = time.perf_counter()
        model.fit(windows, labels, batch_size=load.batch, verbose=0)
        return len(windows) / (time.perf_counter() - begun)

    return lap


def predict_windows(load: Load) -> Callable[[], float]:
    model, (windows, _) = plain(load), windows_of(load, 8192)

    def lap() -> float:
        begun = time.perf_counter()
        model.predict(windows, batch_size=1024, verbose=0)
        return len(windows) / (time.perf_counter() - begun)

    return lap


def train(load: Load, mode: str, epochs: int = 4) -> Callable[[], float]:
    """Return laps of a whole run of the trainer; its first epoch, which also makes the first weights, is not timed."""
    from models.networks.network import Network
    from models.training.trainer import Epoch, Trainer, Training

    labels = load.labels if mode == "sequence" else load.batch
    training = Training(
        epochs=epochs, batch_size=labels, chunk=load.chunk, learning_rate=1e-3, patience=epochs
    )
    network = Network("gru", load.features, load.lookback, units=load.units, mode=mode)
    trainer, (given, count) = Trainer(network, training), examples(load, mode)

    def lap() -> float:
        ends: list[float] = []

        def note(_: Epoch) -> None:
            ends.append(time.perf_counter())

        trainer.train(given, seed=1, progress=note)
        return count * (epochs - 1) / (ends[-1] - ends[0])

    return lap


def train_with_torch(load: Load) -> Callable[[], float]:
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(load.features, load.units, batch_first=True)
            self.logits = torch.nn.Linear(load.units, 1)

        def forward(self, x: Any) -> Any:
            return self.logits(self.gru(x)[0])

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, _, y = (torch.from_numpy(part) for part in load.panel())
    model, loss = Network(), torch.nn.BCEWithLogitsLoss()
    adam = torch.optim.Adam(model.parameters())
    carry = load.chunk - load.lookback + 1
    rows = load.labels // carry
    rng, steps = np.random.default_rng(0), 12

    def lap() -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            symbol = torch.from_numpy(rng.integers(load.symbols, size=(rows, 1)))
            first = rng.integers(load.sessions - load.chunk + 1, size=(rows, 1))
            session = torch.from_numpy(first + np.arange(load.chunk))
            adam.zero_grad()
            loss(model(x[symbol, session])[:, -carry:], y[symbol, session][:, -carry:]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
        return steps * rows * carry / (time.perf_counter() - begun)

    return lap


def forecast_in_one_pass(load: Load) -> Callable[[], float]:
    from models.ensembles.members import Members
    from models.networks.network import Network
    from models.networks.recurrent import build
    from models.scaling import Scaling
    from models.windows import closed_up

    no_scale = Scaling(np.zeros(load.features, np.float32), np.ones(load.features, np.float32))
    network = Network("gru", load.features, load.lookback, units=load.units, mode="sequence")
    members = Members(network, no_scale, [build(network, 1).get_weights()])
    x, mask, _ = load.panel()
    rows = closed_up(members.usable(mask))

    def lap() -> float:
        begun = time.perf_counter()
        members.logits(x, mask, rows)
        return len(rows) / (time.perf_counter() - begun)

    return lap


def multiply(load: Load, side: int = 2048) -> Callable[[], float]:
    import tensorflow as tf

    matrix = tf.random.stateless_normal((side, side), (1, 2))

    def lap() -> float:
        begun = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        return 2 * side**3 / (time.perf_counter() - begun)

    return lap


def fit_members(load: Load, epochs: int = 2) -> Callable[[], float]:
    """Return laps of a whole fit of so many members: their epochs, the calibration, the forecasts for it."""
    from models.ensembles.pooled import RecurrentModel
    from models.networks.network import Network
    from models.training.trainer import Training

    network = Network("gru", load.features, load.lookback, units=load.units, mode="sequence")
    training = Training(
        epochs=epochs, batch_size=load.labels, chunk=load.chunk, learning_rate=1e-3, patience=epochs
    )
    model, last = RecurrentModel(network, training, members=load.members), load.sessions
    panel, train = load.panel(), range(last - 600)

    def lap() -> float:
        begun = time.perf_counter()
        stop, calibrate = range(last - 599, last - 300), range(last - 299, last)
        model.fit(*panel, train=train, stop=stop, calibrate=calibrate, seed=1)
        return load.members * load.symbols * len(train) * epochs / (time.perf_counter() - begun)

    return lap


def fit_once(load: Load) -> Callable[[], float]:
    """Return a lap of one fit that says how many MB it took at its peak, above what Python and TensorFlow took."""
    from models.ensembles.pooled import RecurrentModel
    from models.networks.network import Network
    from models.training.trainer import Training

    network = Network("gru", load.features, load.lookback, units=load.units, mode="sequence")
    training = Training(epochs=1, batch_size=load.labels, chunk=load.chunk, learning_rate=1e-3)
    model, last = RecurrentModel(network, training, members=1), load.sessions
    imported = peak()

    def lap() -> float:
        ranges = {"train": range(last - 600), "stop": range(last - 599, last - 300)}
        model.fit(*load.panel(), **ranges, calibrate=range(last - 299, last), seed=1)
        return peak() - imported

    return lap


def windows_of(load: Load, count: int) -> tuple[np.ndarray, np.ndarray]:
    x, _, y = load.panel()
    windows = np.lib.stride_tricks.sliding_window_view(x, load.lookback, axis=1).swapaxes(2, 3)
    rng = np.random.default_rng(1)
    symbol, first = rng.integers(load.symbols, size=count), rng.integers(windows.shape[1], size=count)
    return windows[symbol, first], y[symbol, first + load.lookback - 1]


def examples(load: Load, mode: str) -> tuple[Any, int]:
    """Return what a fit learns from, the newest sessions for stopping, and how many labels carry loss."""
    from models.training.trainer import Examples
    from models.windows import closed_up, example_spans, usable_rows

    x, mask, y = load.panel()
    usable, cut = usable_rows(mask, load.lookback, "windowed"), load.sessions - load.stop
    before = np.arange(load.sessions) < cut
    if mode == "windowed":  # a tenth of the symbols is enough of them
        usable[load.symbols // 10 :] = False
    rows, stop_rows = (np.flatnonzero(usable & part).astype(np.int32) for part in (before, ~before))
    train, stop = (
        example_spans(mask, part, load.lookback, joined=mode == "sequence") for part in (rows, stop_rows)
    )
    panel, labels = x.reshape(-1, load.features), y.reshape(-1, 1)
    return Examples(panel, labels, closed_up(mask), train, stop, np.array([0.5])), len(rows)


def peak() -> float:
    """Return the most MB that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WAYS: dict[str, Callable[[Load], Callable[[], float]]] = {
    "keras fit": fit_plainly,
    "windowed": lambda load: train(load, "windowed", epochs=2),
    "sequence": lambda load: train(load, "sequence"),
    "torch": train_with_torch,
    "predict": predict_windows,
    "one pass": forecast_in_one_pass,
    "matmul": multiply,
    "members": fit_members,
    "memory": fit_once,
}


def main(name: str, load: str) -> None:
    lap = WAYS[name](Load(**json.loads(load)))
    if name != "memory":  # which is what it takes once
        lap()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(lap(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
