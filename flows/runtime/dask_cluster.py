"""Dask as an executor: what becomes of its scheduler and workers is told in our own words."""

import logging
import pickle
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import contextmanager, suppress
from contextvars import copy_context
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

from flows.runtime.locations import install_command
from flows.runtime.progress import log_line, log_quietly
from pipeline.errors import InputError, NextdayError

__all__ = ["join_cluster"]

P = ParamSpec("P")
R = TypeVar("R")

_CONNECTING = 20
"""Seconds that a scheduler may take to answer."""

_LOOK = 5.0
"""Seconds between two looks at the workers."""

_TOLD_AFTER = 60.0
"""Seconds without a worker after which that is told."""


@contextmanager
def join_cluster(address: str, patience: float) -> Iterator[tuple[Executor, int]]:
    """Give the executor of the scheduler at `address`, and how many workers it has.

    They need this environment and each other's ports, and no folder in common: what is shared travels by the scheduler.

    Args:
        address: The scheduler's address.
        patience: Minutes that a training waits for a worker once all of them are gone; then its futures raise.

    Raises:
        InputError: Dask is not installed.
        NextdayError: no scheduler answers there, or it has no worker. The futures of the executor raise it too: where
            the scheduler or all workers are lost, or a training ends its worker again and again.
    """
    if find_spec("distributed") is None:
        raise InputError(
            "Training on other machines needs Dask, which is not installed",
            where="[training] scheduler; the extra `dask` of nextday",
            fix=install_command("dask"),
        )
    from distributed import Client

    # It prints a traceback wherever a connection is lost.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            address, timeout=_CONNECTING, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise NextdayError(
            f"No Dask scheduler answers: {str(error).splitlines()[0]}",
            where=f"[training] scheduler = {address}",
            fix="start one (`dask scheduler`) and workers (`dask worker`), or leave the setting empty",
        ) from None
    with client:
        workers = client.scheduler_info()["workers"]
        if not workers:
            raise NextdayError(
                "The Dask scheduler has no worker yet",
                where=f"[training] scheduler = {address}",
                fix="start some: `dask worker ADDRESS --nthreads 1`, in this environment",
            )
        log_quietly(f"training by {len(workers)} workers of {address}")
        with _Cluster(client, address, 60 * patience) as cluster:
            yield cluster, len(workers)


class _Cluster(Executor):
    """The executor of a connected client; a thread watches whether there is still a worker.

    Args:
        client: The client.
        address: The scheduler's address.
        patience: Seconds that submitted work waits without any worker.
    """

    def __init__(self, client: Any, address: str, patience: float) -> None:
        self._client, self._where, self._patience = client, f"[training] scheduler = {address}", patience
        self._dask = client.get_executor()
        self._waiting: set[Future[Any]] = set()
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=copy_context().run, args=(self._watch,), daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Submit a call; its future raises NextdayError where the cluster cannot finish it.

        Raises:
            NextdayError: the scheduler is lost.
        """
        if self._client.status != "running":
            raise self._lost_scheduler()
        there: Future[R] = self._dask.submit(fn, *args, **kwargs)
        here: Future[R] = Future()
        self._waiting.add(here)
        there.add_done_callback(lambda done: self._pass_on(done, here))
        here.add_done_callback(lambda done: there.cancel() if done.cancelled() else None)
        return here

    def share(self, value: object) -> Any:
        """Send a value to the scheduler once; what is returned stands for it in the arguments of `submit`.

        The scheduler keeps it until nothing refers to it any more: a worker that is lost takes no input with it. One
        worker reads it from there, the others from each other.

        Raises:
            NextdayError: the scheduler is lost.
        """
        if self._client.status != "running":
            raise self._lost_scheduler()
        packed = pickle.dumps(value, protocol=5)
        with warnings.catch_warnings():  # that it is large: another way, scatter, loses it with its worker
            warnings.simplefilter("ignore", UserWarning)
            return self._client.submit(pickle.loads, packed, pure=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what is still waiting, and leave the cluster as it is."""
        self._is_over.set()
        self._watcher.join()
        for future in list(self._waiting):
            future.cancel()

    def _pass_on(self, there: Future[R], here: Future[R]) -> None:
        with suppress(InvalidStateError):  # it was cancelled, or given up
            try:
                here.set_result(there.result())
            except (Exception, CancelledError) as error:
                here.set_exception(self._explain(error))
        self._waiting.discard(here)

    def _explain(self, error: BaseException) -> BaseException:
        from distributed import KilledWorker

        if isinstance(error, CancelledError):
            return self._lost_scheduler()
        if isinstance(error, KilledWorker):
            return NextdayError(
                f"A training ended its Dask worker {error.allowed_failures + 1} times in a row, the last one at "
                f"{error.last_worker.address}",
                where=self._where,
                fix="the worker's log says why; memory is the usual cause: give each worker more of it "
                "(`dask worker --memory-limit`), or start fewer on that machine; then run this again",
            )
        return error

    def _lost_scheduler(self) -> NextdayError:
        return NextdayError(
            "The Dask scheduler is lost: it has ended, was started again, or cannot be reached any more",
            where=self._where,
            fix="start it and its workers again, then run this again: a backtest keeps what was trained; or leave the "
            "setting empty to train on this machine",
        )

    def _watch(self) -> None:
        """Tell when no worker is left, and end what waits for one after `patience`."""
        last_seen, is_told = time.monotonic(), False
        while not self._is_over.wait(_LOOK):
            workers = self._count_workers()
            if workers or not self._waiting:
                if is_told:
                    log_line(f"the Dask scheduler has {workers} workers again")
                last_seen, is_told = time.monotonic(), False
                continue
            gone = time.monotonic() - last_seen
            if gone >= _TOLD_AFTER and not is_told:
                is_told = True
                log_line(
                    f"all Dask workers are gone: waiting for {self._patience / 60:.0f} minutes for a new one "
                    "([training] worker_patience)"
                )
            if gone >= max(self._patience, _TOLD_AFTER):
                self._give_up()

    def _count_workers(self) -> int:
        try:
            return len(self._client.scheduler_info()["workers"])
        except Exception:  # the scheduler is lost too: its futures say so
            return 0

    def _give_up(self) -> None:
        minutes = max(self._patience, _TOLD_AFTER) / 60
        error = NextdayError(
            f"All Dask workers are gone for {minutes:.0f} minutes",
            where=self._where,
            fix="start some (`dask worker ADDRESS --nthreads 1`, in this environment), then run this again: a backtest "
            "keeps what was trained; [training] worker_patience sets how long to wait",
        )
        for future in list(self._waiting):
            with suppress(InvalidStateError):
                future.set_exception(error)
            self._waiting.discard(future)
