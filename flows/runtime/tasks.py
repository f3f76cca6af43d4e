"""Prefect tasks with nextday's defaults, names of flow runs, and the run under its universe's lock."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
from prefect import Task, get_client
from prefect import task as prefect_task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from flows.runtime.context import Run, open_run
from flows.runtime.progress import PREFECT_ERRORS, log_line, log_quietly

__all__ = ["MAX_SECONDS", "PATIENCE", "label_flow_run", "open_locked_run", "task"]

P = ParamSpec("P")
R = TypeVar("R")

MAX_SECONDS = 12 * 3600.0
"""Seconds after which a flow run is stopped: one that hangs must not block the next one."""

PATIENCE = 1800.0
"""Seconds that a run waits for another run of the same universe."""


def task(
    name: str, *, run_name: str = "", timeout: float | None = None, **retries: Any
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return a decorator like Prefect's `task`, with results neither cached nor persisted and durations logged.

    Args:
        name: The task's name; its duration is logged under it.
        run_name: Prefect's template of the task run's name, filled with the function's arguments; default: `name`.
        timeout: Seconds after which it is stopped.
        retries: Prefect's retry options.
    """

    def decorate(work: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(work)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            started = time.monotonic()
            try:
                return work(*args, **kwargs)
            finally:
                log_quietly(f"{name}: {time.monotonic() - started:.1f} s")

        options = {"cache_policy": NO_CACHE, "persist_result": False, "timeout_seconds": timeout, **retries}
        return prefect_task(timed, name=name, task_run_name=run_name or name, **options)  # type: ignore[call-overload, no-any-return]

    return decorate


@contextmanager
def open_locked_run(config: Path | None, home: Path | None, now: datetime | None) -> Iterator[Run]:
    """Open the run under its universe's lock, and name the flow run after the universe.

    After a wait the run is opened again: the clock has moved on, and files were read when their last bar may still
    have been open.

    Raises:
        InputError: the settings, the universe, the files they name or the workspace cannot be used.
        WorkspaceBusyError: another run held the lock for longer than PATIENCE.
    """
    run, waits = open_run(config, home, now), []

    def log_wait(line: str) -> None:
        waits.append(line)
        log_line(line)

    with run.workspace.locked(run.name, timeout=PATIENCE, log=log_wait):
        label_flow_run(run)
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
