"""The training of one member as a job: the same weights in this process, in another one and on another machine.

What crosses to another process is small. The examples lie in files, which every process of a machine reads from the
same memory; the epochs come back through files as well, so that any executor of concurrent.futures will do.
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
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import numpy as np

from models.errors import ModelError
from models.networks.recurrent import Network
from models.threads import check_one_thread
from models.training.checkpoints import Checkpoints, digest_examples, name_training
from models.training.trainer import Epoch, Examples, Trainer, Training, Weights

__all__ = ["Begun", "Job", "Progress", "Run", "begin_all", "train_from_files"]

T = TypeVar("T")

Run = tuple[Weights, list[Epoch]]
"""What `Trainer.train` returns."""

Progress = Callable[[Epoch], None]

_LOOK: Final = 0.2
"""Seconds between two looks at what processes have written down."""

_PARTS: Final = tuple(field.name for field in fields(Examples))

_TURN: Final = threading.Lock()
"""A trainer serves one job at a time; executors with threads of their own may bring several into one process."""


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


@dataclass(frozen=True)
class Begun(Generic[T]):
    """Work that may be on its way already.

    Attributes:
        finish: Waits for what it comes to, and returns that; to be called once.
        close: Lets go of what is not done; for whoever does not ask for the end.
    """

    finish: Callable[[], T]
    close: Callable[[], None]


def begin_all(
    examples: Sequence[Examples],
    jobs: Sequence[Job],
    *,
    executor: Executor | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    finished: Path | None = None,
) -> Begun[list[Run]]:
    """Hand all jobs to the executor; what each comes to, in their order, does not depend on where they are done.

    Args:
        examples: What there is to learn from; each job names its own.
        jobs: What to do.
        executor: Who does it; default: this process, one after another, once the end is asked for.
        folder: Where the files go that an executor's processes read: they must see it too; default: the system's.
        progress: Called after every epoch, once the end is asked for; where the executor's processes write to another
            disk, once a member is done.
        finished: A folder that keeps every job as soon as it is done; one that it holds is told, and not done again.

    Returns:
        The jobs under way; `finish` raises DivergenceError if a loss is no longer a finite number.

    Raises:
        ModelError: if files cannot be written, or the executor is broken; from `finish`, too.
    """
    done, tell = _Done(examples, jobs, finished), progress or (lambda epoch: None)
    earlier = list(done.runs.values())
    left = [job for job in jobs if job.member not in done.runs]
    rest: Begun[None] = Begun(lambda: None, lambda: None)
    if left and executor is None:
        rest = replace(rest, finish=partial(_train_here, examples, left, tell, done))
    elif left and executor is not None:
        rest = _begin_elsewhere(examples, left, executor, folder, tell, done)

    def finish() -> list[Run]:
        for _, epochs in earlier:
            for epoch in epochs:
                tell(epoch)
        rest.finish()
        return [done.runs[job.member] for job in jobs]

    return Begun(finish, rest.close)


def _train_here(examples: Sequence[Examples], jobs: Sequence[Job], tell: Progress, done: "_Done") -> None:
    for job in jobs:
        done.add(job, _train(examples[job.examples], job, tell))


def _begin_elsewhere(
    examples: Sequence[Examples],
    jobs: Sequence[Job],
    executor: Executor,
    folder: Path | None,
    tell: Progress,
    done: "_Done",
) -> Begun[None]:
    with ExitStack() as kept:
        place = _lay_out(examples, folder, kept)
        asked: dict[Future[Run], Job] = {}
        kept.callback(_cancel, asked)
        with _explained(place):
            for job in jobs:
                future = executor.submit(train_from_files, str(place), job)
                asked[future] = job
                future.add_done_callback(partial(done.keep, job))
        under_way = kept.pop_all()

    def finish() -> None:
        with under_way, _explained(place):
            _watch(asked, _Told(place, tell), done)

    return Begun(finish, under_way.close)


def _cancel(asked: Mapping["Future[Run]", Job]) -> None:
    for future in asked:
        future.cancel()


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    """Say what is the matter where the processes that train are gone, or do not see the files in `place`."""
    try:
        yield
    except BrokenExecutor as broken:
        raise ModelError(
            f"the processes that train are gone: {broken}",
            fix="it is often memory: make [training] processes smaller, and look at what else ran then",
        ) from None
    except (
        OSError
    ) as error:  # of a machine that trains: it does not see the folder, or it is not there any more
        raise ModelError(
            f"a process that trains is lost, or does not see the files: {error}",
            where=str(place),
            fix="on other machines, mount the workspace under the same path; then run this again",
        ) from None


def train_from_files(place: str, job: Job) -> Run:
    """Do one job in whatever process this is, from the files in the folder `place`."""
    log = Path(place) / f"epochs-{socket.gethostname()}-{os.getpid()}.jsonl"

    def write_down(epoch: Epoch) -> None:
        # Nobody's training is worth less because nobody can watch it: the epochs come with the result, too.
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(epoch)) + "\n")

    return _train(_read(Path(place), job.examples), job, write_down)


def _train(examples: Examples, job: Job, progress: Progress) -> Run:
    check_one_thread()
    with _TURN:
        return _trainer(job.network, job.training).train(
            examples, job.seed, member=job.member, members=job.members, progress=progress, start=job.start
        )


@lru_cache(maxsize=1)
def _trainer(network: Network, training: Training) -> Trainer:
    """Return the process's trainer: compiled once, whatever it is asked for after that."""
    return Trainer(network, training)


def _lay_out(examples: Sequence[Examples], folder: Path | None, kept: ExitStack) -> Path:
    """Write the examples into files of a folder of their own, which goes when `kept` is closed."""
    try:
        made = tempfile.TemporaryDirectory(prefix="fit-", dir=folder, ignore_cleanup_errors=True)
        place = Path(kept.enter_context(made))
        _write(examples, place)
    except OSError as error:
        raise ModelError(
            f"what there is to learn from cannot be written down for the processes that train: "
            f"{error.strerror or error}",
            where=str(folder or tempfile.gettempdir()),
            fix="make room on that disk; [training] processes = 1 needs no such files",
        ) from None
    return place


def _write(examples: Sequence[Examples], place: Path) -> None:
    """Write each part of all examples as one array, and where in it those of each lie, int64 [part, examples + 1]."""
    bounds = []
    for name in _PARTS:
        parts = [getattr(each, name) for each in examples]
        np.save(place / f"{name}.npy", parts[0] if len(parts) == 1 else np.concatenate(parts))
        bounds.append(np.cumsum([0, *map(len, parts)]))
    np.save(place / "bounds.npy", np.array(bounds))


def _read(place: Path, number: int) -> Examples:
    """Return one of the examples of `_write`; nothing is read before it is used."""
    bounds = np.load(place / "bounds.npy")[:, number : number + 2].tolist()
    return Examples(
        **{
            name: np.asarray(np.load(place / f"{name}.npy", mmap_mode="r")[first:stop])
            for name, (first, stop) in zip(_PARTS, bounds, strict=True)
        }
    )


def _watch(asked: Mapping["Future[Run]", Job], told: "_Told", done: "_Done") -> None:
    """Tell every epoch, and keep what is finished, until all jobs are done or one has failed."""
    waiting = dict(asked)
    while waiting:
        ended, _ = wait(waiting, timeout=_LOOK, return_when=FIRST_EXCEPTION)
        told.look()
        for future in sorted(ended, key=lambda each: waiting[each].member):
            job, run = waiting.pop(future), future.result()
            told.finish(run[1])
            done.add(job, run)


class _Done:
    """What the jobs came to so far, by the number of the member; with a folder also what earlier calls finished."""

    def __init__(self, examples: Sequence[Examples], jobs: Sequence[Job], folder: Path | None) -> None:
        self.runs: dict[int, Run] = {}
        self._adding = threading.Lock()
        self._finished = folder and Checkpoints(folder)
        if self._finished:
            learned_from = [digest_examples(each) for each in examples]
            self._names = {job.member: _name(job, learned_from[job.examples]) for job in jobs}
            kept = {member: self._finished.read(name) for member, name in self._names.items()}
            self.runs = {member: run for member, run in kept.items() if run}

    def add(self, job: Job, run: Run) -> None:
        """Keep what a job came to; the second time there is nothing left to do."""
        with self._adding:
            if job.member in self.runs:
                return
            if self._finished:
                self._finished.write(self._names[job.member], *run)
            self.runs[job.member] = run

    def keep(self, job: Job, future: "Future[Run]") -> None:
        """Keep what came of a job at once, whatever its asker is at; what went wrong is told where it is asked for."""
        if not future.cancelled() and not future.exception():
            with suppress(ModelError):
                self.add(job, future.result())


def _name(job: Job, learned_from: str) -> str:
    """Return the name of what a job comes to: everything that decides it."""
    facts = {
        "network": asdict(job.network),
        "training": asdict(job.training),
        "seed": job.seed,
        "member": (job.member, job.members),  # its epochs say so
        "examples": learned_from,
    }
    return name_training(facts, job.start)


class _Told:
    """The epochs that processes have written down, each told once."""

    def __init__(self, place: Path, tell: Progress) -> None:
        self._place, self._tell = place, tell
        self._read: dict[Path, int] = {}
        self._last: dict[int, int] = {}

    def look(self) -> None:
        """Tell what is new."""
        for log in sorted(self._place.glob("epochs-*.jsonl")):
            with log.open("rb") as file:
                file.seek(self._read.get(log, 0))
                for line in file:
                    if line.endswith(b"\n"):  # the last one may be half-written
                        self._read[log] = self._read.get(log, 0) + len(line)
                        self._tell_new(Epoch(**_parsed(line)))

    def finish(self, epochs: list[Epoch]) -> None:
        """Tell what of a finished member was not seen."""
        for epoch in epochs:
            self._tell_new(epoch)

    def _tell_new(self, epoch: Epoch) -> None:
        if epoch.epoch > self._last.get(epoch.member, 0):
            self._last[epoch.member] = epoch.epoch
            self._tell(epoch)


def _parsed(line: bytes) -> dict[str, Any]:
    return dict(json.loads(line))
