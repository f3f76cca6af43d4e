"""Where the networks of a run are trained: in this process, in parallel processes, or by a Dask cluster."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from flows.runtime.context import Run
from flows.runtime.dask_cluster import join_cluster
from flows.runtime.progress import log_quietly
from flows.training.load_models import load_ensembles
from models.cores import count_cores
from models.training.process_pool import LocalWorkers
from pipeline.config import ModelConfig
from pipeline.errors import InputError
from pipeline.features.sequences import Sequences

__all__ = ["Compute", "choose_processes", "open_compute", "require_gpu", "training_seconds"]


_WORTH_IT: Final = 60.0
"""Seconds of training below which one process is faster: each further one has to import TensorFlow and compile."""
_SPEED: Final = 2e10
"""Approximate floating-point operations per second of one core, for small networks."""
_GATES: Final = {"rnn": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True, eq=False)
class Compute:
    """Where a fit trains.

    Attributes:
        executor: Trains the members; None: this process.
        workers: How many jobs it runs at a time.
        folder: For temporary files; None: the system's.
        rescue: For the last good weights of a training that diverges; None: they are not kept.
        checkpoints: For trained members, so that an interrupted run need not train them again; None: they are not
            kept.
    """

    executor: Executor | None = None
    workers: int = 1
    folder: Path | None = None
    rescue: Path | None = None
    checkpoints: Path | None = None


@contextmanager
def open_compute(run: Run, sequences: Sequences, at_once: int = 1) -> Iterator[Compute]:
    """Open what trains all fits of the `with` block; its processes start at once, in the background.

    Args:
        run: The run.
        sequences: The sequences to learn from.
        at_once: Fits that may train at a time.
    """
    # The user's code need not be picklable; a classifier is fitted sooner than a process starts.
    if not run.config.model.is_network:
        yield Compute()
        return
    processes, training = choose_processes(run, sequences, at_once), run.config.training
    rescue = run.workspace.home / "diverged" / run.name
    with run.workspace.scratch() as folder:
        if training.scheduler:
            with join_cluster(training.scheduler, training.worker_patience) as (cluster, workers):
                yield Compute(cluster, workers, folder=folder, rescue=rescue)
            return
        if processes == 1 and training.used_device == "cpu":
            yield Compute(folder=folder, rescue=rescue)
            return
        log_quietly(f"training in {processes} processes")
        with LocalWorkers(processes, folder) as local:
            local.start()
            yield Compute(local, processes, folder, rescue)


def require_gpu(run: Run) -> Run:
    """Return the run, unless it is to train on a GPU of this machine and there is none: before anything is fetched.

    With [training] scheduler the GPUs are those of the workers.

    Raises:
        InputError: TensorFlow finds no GPU here.
    """
    training = run.config.training
    if training.used_device == "cpu" or training.scheduler:
        return run
    load_ensembles()
    from models.devices import find_gpus

    if not find_gpus():
        raise InputError(
            "The settings train on a GPU, and TensorFlow finds none on this machine",
            where='[training] device = "gpu"',
            fix="check its driver (`nvidia-smi`) and that TensorFlow was installed with CUDA (`tensorflow[and-cuda]`), "
            'or set device = "cpu"',
        )
    return run


def choose_processes(run: Run, sequences: Sequences, at_once: int = 1) -> int:
    """Return how many processes train: as configured, or one per core where the work is worth their start.

    The default is at most as many as the jobs of two fits keep busy: each process takes memory of its own.
    """
    jobs = run.config.model.members
    if run.config.model.scope == "symbol":
        jobs *= len(sequences.symbols)
    wanted = run.config.training.processes
    if wanted == 0 and run.config.training.used_device == "gpu":
        return 1  # one training keeps a GPU busy, in a process of its own
    if wanted == 0:
        wanted = count_cores() if training_seconds(run, sequences) > _WORTH_IT else 1
        at_once = min(at_once, 2)
    return min(wanted, jobs * at_once)


def _weights_per_session(model: ModelConfig, features: int) -> int:
    """Return how many weights a network uses at each session, about."""
    if model.kind == "linear":
        return features
    if model.kind == "tcn":
        return model.units * (features + 2 * model.units * model.layers * model.lookback.bit_length())
    inputs = [features, *[model.units] * (model.layers - 1)]
    return sum(_GATES[model.kind] * model.units * (width + model.units) for width in inputs)


def training_seconds(run: Run, sequences: Sequences) -> float:
    """Estimate the seconds that training a champion and its score takes on one core.

    Six operations per weight and session (two each for the forward pass and for both gradients), half of the epochs.
    """
    model, training = run.config.model, run.config.training
    weights = _weights_per_session(model, sequences.x.shape[2])
    steps = float(model.lookback)
    if training.mode == "sequence":
        steps = training.chunk / max(training.chunk - model.lookback + 1, 1)
    rows = int(np.count_nonzero(sequences.mask))
    operations = 2 * 6 * weights * steps * rows * model.members * training.epochs / 2
    return float(operations / _SPEED)
