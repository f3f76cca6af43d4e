"""Train members as jobs: the same weights in this process, in another process or on another machine.

Little is sent to another process: the examples are memory-mapped files, and the epochs come back through files as well,
so that any executor of concurrent.futures works. An executor that can `share` a value needs no files: the examples
travel over its own network, to machines that have no folder in common.
"""

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from models.devices import Device, on_device
from models.errors import ModelError
from models.networks.network import Network
from models.threads import check_one_thread
from models.training.checkpoints import Checkpoints, digest_examples, name_training
from models.training.futures import DeferredFuture
from models.training.graphs import Graphs, Regularization
from models.training.trainer import Epoch, Examples, Run, Trainer, Training, Weights

__all__ = ["Job", "Progress", "SharingExecutor", "submit_all", "train_from_files", "train_from_memory"]

Progress = Callable[[Epoch], None]

_POLL_SECONDS: Final = 0.2
"""Between two reads of the epochs that other processes have logged."""

_PARTS: Final = tuple(field.name for field in fields(Examples))

_GRAPHS_LOCK: Final = threading.Lock()
"""The graphs serve one job at a time; a thread-based executor may start several jobs in one process."""


@dataclass(frozen=True)
class Job:
    """One member to train.

    Attributes:
        network: What it is.
        training: How it is trained.
        seed: Decides the first weights and the order of the steps.
        member: Its number among all that are trained, from 1.
        members: How many these are.
        examples: Which of the examples it learns from, from 0.
        start: Weights to go on from, instead of those of the seed.
    """

    network: Network
    training: Training
    seed: int
    member: int
    members: int
    examples: int = 0
    start: Weights | None = None


@runtime_checkable
class SharingExecutor(Protocol):
    """An executor whose processes may have no folder in common with this one."""

    def share(self, value: object) -> Any:
        """Send a value once; return what stands for it in the arguments of `submit`."""


def submit_all(
    examples: Sequence[Examples],
    jobs: Sequence[Job],
    *,
    executor: Executor | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
) -> DeferredFuture[list[Run]]:
    """Submit all jobs to the executor; the results are in the order of the jobs and do not depend on the executor.

    Args:
        examples: The training data; each job names its own.
        jobs: The members to train.
        executor: Trains them; default: this process, one after another, when `result` is called.
        folder: For the files that the executor's processes read: they must see it too, unless the executor can share
            values; default: the system's.
        progress: Called after every epoch while `result` waits; for each epoch of a finished member where the
            executor's processes write to no common disk.
        checkpoints: A folder that keeps every finished training; one that it holds is not trained again.

    Returns:
        The jobs; `result` raises DivergenceError if a loss is not finite.

    Raises:
        ModelError: if files cannot be written, or the executor is broken; `result` raises it too.
    """
    results, report = _Results(examples, jobs, checkpoints), progress or (lambda epoch: None)
    kept = list(results.runs.values())
    left = [job for job in jobs if job.member not in results.runs]
    finish_rest: Callable[[], None]
    if left and executor is not None:
        finish_rest, close = _submit(examples, left, executor, folder, report, results)
    else:
        finish_rest, close = partial(_train_here, examples, left, report, results), lambda: None

    def finish() -> list[Run]:
        for run in kept:
            for epoch in _closing(run.epochs):
                report(epoch)
        finish_rest()
        return [results.runs[job.member] for job in jobs]

    return DeferredFuture(finish, close)


def _train_here(
    examples: Sequence[Examples], jobs: Sequence[Job], report: Progress, results: "_Results"
) -> None:
    for job in jobs:
        results.add(job, _train(examples[job.examples], job, report))


def _submit(
    examples: Sequence[Examples],
    jobs: Sequence[Job],
    executor: Executor,
    folder: Path | None,
    report: Progress,
    results: "_Results",
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Submit the jobs; return what waits for them, and what releases them."""
    with ExitStack() as stack:
        place = None if isinstance(executor, SharingExecutor) else _write_examples(examples, folder, stack)
        start = _share(examples, executor) if place is None else partial(_start_from_files, executor, place)
        submitted: dict[Future[Run], Job] = {}
        stack.callback(_cancel, submitted)
        with _explain_lost_processes(place):
            for job in jobs:
                future = start(job)
                submitted[future] = job
                future.add_done_callback(partial(results.keep, job))
        resources = stack.pop_all()

    def finish() -> None:
        with resources, _explain_lost_processes(place):
            _wait(submitted, _EpochLogs(place, report), results)

    return finish, resources.close


def _start_from_files(executor: Executor, place: Path, job: Job) -> "Future[Run]":
    return executor.submit(train_from_files, str(place), job)


def _share(examples: Sequence[Examples], executor: Any) -> Callable[[Job], "Future[Run]"]:
    """Return what starts a job whose examples the executor has sent, each of them once."""
    sent = cache(lambda number: executor.share(examples[number]))
    return lambda job: executor.submit(train_from_memory, sent(job.examples), job)


def _cancel(submitted: Mapping["Future[Run]", Job]) -> None:
    for future in submitted:
        future.cancel()


@contextmanager
def _explain_lost_processes(place: Path | None) -> Iterator[None]:
    """Raise a ModelError with a fix where the training processes died or cannot read the files in `place`."""
    try:
        yield
    except BrokenExecutor as broken:
        raise ModelError(
            f"the training processes died: {broken}",
            fix="memory is the usual cause: lower [training] processes, and check what else was running",
        ) from None
    except OSError as error:  # raised on the training machine: it cannot read the folder, or it is gone
        raise ModelError(
            f"a training process is lost, or cannot read the files: {error}",
            where=str(place or "the machines of the executor"),
            fix="on other machines, mount the workspace under the same path; then run this again"
            if place
            else "check that they are up and reach each other; then run this again",
        ) from None


def train_from_files(place: str, job: Job) -> Run:
    """Run one job in the current process, from the files in the folder `place`."""
    log = Path(place) / f"epochs-{socket.gethostname()}-{os.getpid()}.jsonl"

    def log_epoch(epoch: Epoch) -> None:
        # A failed write only delays the progress bar: the epochs are also part of the result.
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(epoch)) + "\n")

    return _train(_read(Path(place), job.examples), job, log_epoch)


def train_from_memory(examples: Examples, job: Job) -> Run:
    """Run one job in the current process, from examples that came with it."""
    return _train(examples, job, lambda epoch: None)


def _train(examples: Examples, job: Job, progress: Progress) -> Run:
    check_one_thread()
    chunk, training = job.training.chunk_of(job.network), job.training
    with _GRAPHS_LOCK, on_device(training.device):
        graphs = _graphs(job.network, chunk, training.clip_norm, training.regularization, training.device)
        return Trainer(job.network, job.training, graphs).train(
            examples, job.seed, member=job.member, members=job.members, progress=progress, start=job.start
        )


@lru_cache(maxsize=1)
def _graphs(
    network: Network, chunk: int, clip_norm: float, regularization: Regularization, device: Device
) -> Graphs:
    """Return the graphs of this process, which are compiled once for all trainings that can share them."""
    return Graphs(network, chunk, clip_norm, regularization, device)


def _write_examples(examples: Sequence[Examples], folder: Path | None, stack: ExitStack) -> Path:
    """Write the examples into a temporary folder, which is removed when `stack` is closed."""
    try:
        made = tempfile.TemporaryDirectory(prefix="fit-", dir=folder, ignore_cleanup_errors=True)
        place = Path(stack.enter_context(made))
        _write(examples, place)
    except OSError as error:
        raise ModelError(
            f"the training data cannot be written for the training processes: {error.strerror or error}",
            where=str(folder or tempfile.gettempdir()),
            fix="free some space on that disk; [training] processes = 1 needs no such files",
        ) from None
    return place


def _write(examples: Sequence[Examples], place: Path) -> None:
    """Write each part of all examples as one array, and the bounds of each set, int64 [part, examples + 1]."""
    bounds = []
    for name in _PARTS:
        parts = [getattr(each, name) for each in examples]
        np.save(place / f"{name}.npy", parts[0] if len(parts) == 1 else np.concatenate(parts))
        bounds.append(np.cumsum([0, *map(len, parts)]))
    np.save(place / "bounds.npy", np.array(bounds))


def _read(place: Path, number: int) -> Examples:
    """Return one set of examples that `_write` wrote, memory-mapped."""
    bounds = np.load(place / "bounds.npy")[:, number : number + 2].tolist()
    return Examples(
        **{
            name: np.asarray(np.load(place / f"{name}.npy", mmap_mode="r")[first:stop])
            for name, (first, stop) in zip(_PARTS, bounds, strict=True)
        }
    )


def _closing(epochs: list[Epoch]) -> list[Epoch]:
    """Return the epochs of a finished member for whoever did not see its second fit: the last one is its last."""
    return [*epochs[:-1], *(replace(epoch, is_last=True) for epoch in epochs[-1:])]


def _wait(submitted: Mapping["Future[Run]", Job], logs: "_EpochLogs", results: "_Results") -> None:
    """Report every epoch, and keep each finished run, until all jobs are done or one has failed."""
    waiting = dict(submitted)
    while waiting:
        ended, _ = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
        logs.poll()
        for future in sorted(ended, key=lambda each: waiting[each].member):
            job, run = waiting.pop(future), future.result()
            logs.report_rest(_closing(run.epochs))
            results.add(job, run)


class _Results:
    """The runs of the finished jobs, by member; with a folder of checkpoints also those of earlier calls."""

    def __init__(self, examples: Sequence[Examples], jobs: Sequence[Job], folder: Path | None) -> None:
        self.runs: dict[int, Run] = {}
        self._adding = threading.Lock()
        self._checkpoints = folder and Checkpoints(folder)
        if self._checkpoints:
            digests = [digest_examples(each) for each in examples]
            self._names = {job.member: _name(job, digests[job.examples]) for job in jobs}
            kept = {member: self._checkpoints.read(name) for member, name in self._names.items()}
            self.runs = {member: run for member, run in kept.items() if run}

    def add(self, job: Job, run: Run) -> None:
        """Keep the run of a job; a second call for the same job does nothing."""
        with self._adding:
            if job.member in self.runs:
                return
            if self._checkpoints:
                self._checkpoints.write(self._names[job.member], run)
            self.runs[job.member] = run

    def keep(self, job: Job, future: "Future[Run]") -> None:
        """Keep the run of a finished job at once; a failure is raised where the results are waited for."""
        if not future.cancelled() and not future.exception():
            with suppress(ModelError):
                self.add(job, future.result())


def _name(job: Job, examples_digest: str) -> str:
    """Return the checkpoint's name: the digest of everything that decides the result of a job."""
    facts = {
        "network": job.network.to_json(),
        "training": job.training.to_json(),
        "seed": job.seed,
        "member": (job.member, job.members),  # its epochs say so
        "examples": examples_digest,
    }
    return name_training(facts, job.start)


class _EpochLogs:
    """The epochs that training processes have logged; each is reported once."""

    def __init__(self, place: Path | None, report: Progress) -> None:
        self._place, self._report = place, report
        self._read: dict[Path, int] = {}
        self._last: dict[int, int] = {}

    def poll(self) -> None:
        """Report the epochs logged since the last call."""
        for log in sorted(self._place.glob("epochs-*.jsonl")) if self._place else ():
            with log.open("rb") as file:
                file.seek(self._read.get(log, 0))
                for line in file:
                    if line.endswith(b"\n"):  # the last line may be incomplete
                        self._read[log] = self._read.get(log, 0) + len(line)
                        self._report_new(Epoch(**_parse_epoch(line)))

    def report_rest(self, epochs: list[Epoch]) -> None:
        """Report the epochs of a finished member that were not in a log."""
        for epoch in epochs:
            self._report_new(epoch)

    def _report_new(self, epoch: Epoch) -> None:
        if epoch.epoch > self._last.get(epoch.member, 0):
            self._last[epoch.member] = epoch.epoch
            self._report(epoch)


def _parse_epoch(line: bytes) -> dict[str, Any]:
    return dict(json.loads(line))
