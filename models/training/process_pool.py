"""Long-lived training processes on this machine, as an executor of concurrent.futures.

Each process is a child with a socket to its parent. It does not import the parent's main script, and leaves nothing
behind but its results. It ends at once when the parent's end of the socket closes, also if the parent was killed. If
it is killed itself, only its own job is repeated.
"""

import gc
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

__all__ = ["LocalWorkers", "LostProcessError"]

P = ParamSpec("P")
R = TypeVar("R")

_ATTEMPTS: Final = 2
"""Processes that one job may use up: a second loss is hardly a coincidence."""

_GRACE: Final = 10.0
"""Seconds between terminating a process and killing it."""


class LostProcessError(ModelError):
    """A process ended during a job, again and again: no fault of what was to be trained."""


class LocalWorkers(Executor):
    """Single-threaded processes on this machine, started by the first jobs, or all at once by `start`.

    As a context manager it waits for its jobs at the end of the block; if the block raises, it ends at once.

    Args:
        processes: Number of processes.
        folder: A folder for these jobs only: a process whose parent is gone removes it.
        ready: The module that a process imports before its first job.
    """

    def __init__(
        self, processes: int, folder: Path | None = None, ready: str = "models.training.jobs"
    ) -> None:
        self._processes, self._is_closed = processes, False
        self._arguments = (ready, str(folder or ""))
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="worker")
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._workers: set[_Worker] = set()
        self._changing = threading.Lock()

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return sorted(worker.process.pid for worker in self._workers)

    def start(self) -> None:
        """Start all processes now: they import for seconds, while the caller can do other work."""
        for _ in range(self._processes - len(self._workers)):
            self._idle.put(self._start_worker())

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a module's function in one of the processes; its arguments and result are pickled."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after their jobs if `wait`, otherwise at once."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures or not wait)
        with self._changing:
            self._is_closed = True
            for worker in self._workers:
                worker.terminate()
            for worker in self._workers:
                worker.end()
            self._workers.clear()
        self._threads.shutdown()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """End the processes, as described for the class."""
        self.shutdown(wait=kind is None)

    def _run(self, fn: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        for _ in range(_ATTEMPTS):
            worker = self._take_worker()
            try:
                outcome = worker.call(fn, args, kwargs)
            except (EOFError, ConnectionError):
                cause = self._drop(worker)
            except BaseException:
                self._idle.put(worker)
                raise
            else:
                self._idle.put(worker)
                if isinstance(outcome, _Failed):
                    raise outcome.error
                return outcome  # type: ignore[no-any-return]
        raise LostProcessError(
            f"a training process was lost {_ATTEMPTS} times during the same job: {cause}",
            where=f"one of {self._processes} processes",
            fix="often memory ran out: lower [training] processes, and check what else was running",
        )

    def _take_worker(self) -> "_Worker":
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._start_worker()

    def _start_worker(self) -> "_Worker":
        with self._changing:
            if self._is_closed:
                raise CancelledError
            worker = _Worker(*self._arguments)
            self._workers.add(worker)
        return worker

    def _drop(self, worker: "_Worker") -> str:
        """Forget a process that has ended; return its exit code or signal, and its last line of output."""
        with self._changing:
            if self._is_closed:
                raise CancelledError
            self._workers.discard(worker)
        return worker.end()


class _Worker:
    """One process, as its parent sees it."""

    def __init__(self, *arguments: str) -> None:
        self._connection, child_end = Pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 -- it lives as long as the process
        number = child_end.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(number), *arguments],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the parent, which then ends this one
        )
        child_end.close()

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function in the process and return its result."""
        self._connection.send((fn, args, kwargs))
        return self._connection.recv()

    def terminate(self) -> None:
        """Ask the process to end, without waiting for its job."""
        self.process.terminate()

    def end(self) -> str:
        """Wait until the process has ended; return its exit code or signal, and its last line of output."""
        try:
            code = self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._connection.close()
        self._output.seek(0)
        last = self._output.read().decode(errors="replace").strip().splitlines()[-1:]
        self._output.close()
        return " ".join([f"signal {-code}" if code < 0 else f"exit code {code}", *last])


class _Failed:
    """An error that a job raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _environment() -> dict[str, str]:
    """Return the environment of a process: the parent's import path, and one thread."""
    places = os.pathsep.join(place for place in sys.path if place)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": places, "TF_CPP_MIN_LOG_LEVEL": "3"}


def _serve(number: int, ready: str, folder: str) -> None:
    """Run one job after another, until the parent closes the socket."""
    threading.Thread(target=_end_with_parent, args=(number, folder), daemon=True).start()
    gc.disable()  # what is imported stays: collecting garbage meanwhile is a third of the time
    importlib.import_module(ready)
    gc.freeze()
    gc.enable()
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
    """Wait until the parent's end of the socket closes, then end this process, even in the middle of a job."""
    watch = select.poll()
    watch.register(number, select.POLLHUP)  # Linux always reports it, macOS where it is asked for
    while not watch.poll():
        pass  # on macOS, data that the other thread takes ends the wait too
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    # Imported under the name that the parent uses in its pickles.
    from models.training.process_pool import _serve as serve

    serve(int(sys.argv[1]), *sys.argv[2:])
