"""Long-lived processes that train: an executor of this machine, like any other of concurrent.futures.

Each process is a plain child with a socket to its parent. It knows nothing of the parent's main script, which is not
imported again; it leaves nothing behind but its answers; it ends, whatever it is at, as soon as the parent's end of
the socket is gone, also where the parent was killed; and where it is killed itself, its job alone is done again.
"""

import importlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from models.errors import ModelError

__all__ = ["LocalWorkers"]

P = ParamSpec("P")
R = TypeVar("R")

_LOSSES: Final = 2
"""Processes that may be lost over one job: the second time it is hardly by chance."""

_GRACE: Final = 10.0
"""Seconds that a process may take to end once its parent has let it go."""


class LocalWorkers(Executor):
    """Processes of this machine, of one thread each; they start when there is work, or when `start` is called.

    As a context manager it waits for its work where the block ends well, and ends at once where it does not.

    Args:
        processes: How many.
        folder: A folder for the work alone: a process whose parent is gone removes it.
        ready: The module that a process imports before it is asked for anything.
    """

    def __init__(
        self, processes: int, folder: Path | None = None, ready: str = "models.training.jobs"
    ) -> None:
        self._processes, self._is_closed = processes, False
        self._arguments = (ready, str(folder or ""))
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="worker")
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._workers: set[_Worker] = set()
        self._hiring = threading.Lock()

    @property
    def pids(self) -> list[int]:
        """The processes that are there."""
        return sorted(worker.process.pid for worker in self._workers)

    def start(self) -> None:
        """Start all processes: what they import takes seconds, beside which other work can be done."""
        for _ in range(self._processes - len(self._workers)):
            self._idle.put(self._hire())

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a function of a module called in one of the processes; what goes in and comes out is pickled."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after their work with `wait`, at once without."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures or not wait)
        with self._hiring:
            self._is_closed = True
            for worker in self._workers:
                worker.let_go()
            for worker in self._workers:
                worker.end()
            self._workers.clear()
        self._threads.shutdown()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """End, see the class."""
        self.shutdown(wait=kind is None)

    def _run(self, fn: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        for _ in range(_LOSSES):
            worker = self._next()
            try:
                outcome = worker.ask(fn, args, kwargs)
            except (EOFError, ConnectionError):
                cause = self._bury(worker)
            except BaseException:
                self._idle.put(worker)
                raise
            else:
                self._idle.put(worker)
                if isinstance(outcome, _Failed):
                    raise outcome.error
                return outcome  # type: ignore[no-any-return]
        raise ModelError(
            f"a training process was lost {_LOSSES} times over the same work: {cause}",
            where=f"one of {self._processes} processes",
            fix="it is often memory: make [training] processes smaller, and look at what else ran then",
        )

    def _next(self) -> "_Worker":
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._hire()

    def _hire(self) -> "_Worker":
        with self._hiring:
            if self._is_closed:
                raise CancelledError
            worker = _Worker(*self._arguments)
            self._workers.add(worker)
        return worker

    def _bury(self, worker: "_Worker") -> str:
        """Return what ended a process that is gone."""
        with self._hiring:
            if self._is_closed:
                raise CancelledError
            self._workers.discard(worker)
        return worker.end()


class _Worker:
    """One process, as its parent sees it."""

    def __init__(self, *arguments: str) -> None:
        self._connection, theirs = Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- it lives as long as the process
        number = theirs.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(number), *arguments],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the parent, which then ends this one
        )
        theirs.close()

    def ask(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the function came to in the process."""
        self._connection.send((fn, args, kwargs))
        return self._connection.recv()

    def let_go(self) -> None:
        """End the process, whatever it is at."""
        self.process.terminate()

    def end(self) -> str:
        """Wait for the end of the process, and return what it was."""
        try:
            code = self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._connection.close()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().splitlines()[-1:]
        self._said.close()
        return " ".join([f"signal {-code}" if code < 0 else f"exit code {code}", *last])


class _Failed:
    """What a job raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _environment() -> dict[str, str]:
    """Return the environment of a process: it imports from where its parent does, and computes on one thread."""
    places = os.pathsep.join(place for place in sys.path if place)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": places, "TF_CPP_MIN_LOG_LEVEL": "3"}


def _serve(number: int, ready: str, folder: str) -> None:
    """Answer one job after another until the end."""
    threading.Thread(target=_end_with_parent, args=(number, folder), daemon=True).start()
    importlib.import_module(ready)
    with Connection(number) as parent:
        while True:
            fn, args, kwargs = parent.recv()
            parent.send(_outcome(fn, args, kwargs))


def _outcome(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return fn(*args, **kwargs)
    except BaseException as error:
        error.add_note(f"in a training process:\n{traceback.format_exc()}")
        return _Failed(error)


def _end_with_parent(number: int, folder: str) -> None:
    """Wait until nobody holds the other end of the socket, then end the process, whatever it is at."""
    watch = select.poll()
    watch.register(number, 0)  # nothing but the hang-up
    watch.poll()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    # Under the name that the parent pickles and unpickles.
    from models.training.process_pool import _serve as serve

    serve(int(sys.argv[1]), *sys.argv[2:])
