"""Prefect tasks with nextday's defaults, flows with and without a server, and the run under its universe's lock."""

import functools
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
from prefect import Flow, Task, get_client
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL
from prefect.utilities.timeout import timeout as time_limit

from flows.runtime.context import Run, open_run
from flows.runtime.progress import PREFECT_ERRORS, log_line, log_quietly

__all__ = [
    "MAX_SECONDS",
    "PATIENCE",
    "Retries",
    "call_flow",
    "label_flow_run",
    "open_locked_run",
    "run_beside",
    "task",
]

P = ParamSpec("P")
R = TypeVar("R")

MAX_SECONDS = 12 * 3600.0
"""Seconds after which a flow run is stopped: one that hangs must not block the next one."""

PATIENCE = 1800.0
"""Seconds that a run waits for another run of the same universe."""


@dataclass(frozen=True)
class Retries:
    """When and how often a task is tried again.

    Attributes:
        error: The error after which it is tried again; after others it is not.
        delays: Seconds before each retry, which vary by `jitter`: runs that failed together do not retry together.
        jitter: Largest relative change of a delay.
    """

    error: type[Exception]
    delays: tuple[float, ...]
    jitter: float = 0.5


def task(
    name: str,
    *,
    run_name: str | Callable[..., str] = "",
    timeout: float | None = None,
    retries: Retries | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return a decorator like Prefect's `task`, with results neither cached nor persisted and durations logged.

    Outside of a flow run the task is the plain function, with the same time limit and retries: no server is needed.

    Args:
        name: The task's name; its duration is logged under it.
        run_name: The task run's name: Prefect's template, filled with the function's arguments, or a function of
            `parameters`, those arguments by name; default: `name`.
        timeout: Seconds after which it is stopped.
        retries: Default: none.
    """

    def decorate(work: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(work)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            started = time.monotonic()
            try:
                return work(*args, **kwargs)
            finally:
                log_quietly(f"{name}: {time.monotonic() - started:.1f} s")

        options = {"cache_policy": NO_CACHE, "persist_result": False, "timeout_seconds": timeout}
        return _Task(timed, retries, name=name, task_run_name=run_name or name, **options)

    return decorate


class _Task(Task[P, R]):
    """A task that Prefect runs inside of a flow run, and that is a plain function elsewhere.

    Attributes:
        again: When it is tried again; None: never.
    """

    def __init__(self, work: Callable[P, R], again: Retries | None, **options: Any) -> None:
        if again is not None:
            options |= {
                "retries": len(again.delays),
                "retry_delay_seconds": list(again.delays),
                "retry_jitter_factor": again.jitter,
                "retry_condition_fn": lambda task, run, state: isinstance(
                    state.result(raise_on_failure=False), again.error
                ),
            }
        super().__init__(work, **options)
        self.again = again

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        if FlowRunContext.get() is not None:
            return super().__call__(*args, **kwargs)
        again = self.again or Retries(Exception, delays=())
        for delay in again.delays:
            try:
                return self._call_once(*args, **kwargs)
            except again.error:
                time.sleep(delay * random.uniform(1 - again.jitter, 1 + again.jitter))
        return self._call_once(*args, **kwargs)

    def _call_once(self, *args: P.args, **kwargs: P.kwargs) -> R:
        with time_limit(self.timeout_seconds):
            return self.fn(*args, **kwargs)


@contextmanager
def run_beside(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Iterator[Future[R]]:
    """Call `work` in a thread, as part of the same flow run, while the block runs; the block's end waits for it.

    A signal that ends the run is no reason to wait.
    """
    pool = ThreadPoolExecutor(1)
    try:
        yield pool.submit(copy_context().run, lambda: work(*args, **kwargs))
    except Exception:
        pool.shutdown()
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def call_flow(work: Flow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a flow in Prefect if PREFECT_API_URL names a server; else call its function, without a server.

    The work and its results are the same; there is no flow run to look at.
    """
    return work(*args, **kwargs) if PREFECT_API_URL.value() else work.fn(*args, **kwargs)


@contextmanager
def open_locked_run(config: Path | None, home: Path | None, now: datetime | None) -> Iterator[Run]:
    """Open the run under its universe's lock, and name the flow run after the universe.

    After a wait the run is opened again: the clock has moved on, and files were read when their last bar may still
    have been open.

    Raises:
        InputError: the settings, the universe, the files they name or the workspace cannot be used.
        WorkspaceBusyError: another run held the lock for longer than PATIENCE.
        LedgerError: sealed rows are lost or changed: nothing is fetched or trained first.
    """
    run, waits = open_run(config, home, now), []

    def log_wait(line: str) -> None:
        waits.append(line)
        log_line(line)

    with run.workspace.locked(run.name, timeout=PATIENCE, log=log_wait):
        label_flow_run(run)
        run.require_whole_ledger()
        yield open_run(config, home, now) if waits else run


def label_flow_run(run: Run, as_of: pd.Timestamp | None = None) -> None:
    """Name and tag the current flow run by universe and session; outside of a flow run nothing happens.

    Tasks get no tags: a tagged task asks the server for a concurrency slot before it starts.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    words = [run.name, f"{as_of:%Y-%m-%d}"] if as_of is not None else [run.name]
    tags = sorted({*context.flow_run.tags, "nextday", *words})
    with suppress(*PREFECT_ERRORS), get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, name=" ".join(words), tags=tags)
