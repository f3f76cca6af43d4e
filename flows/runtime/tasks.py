"""The story as Prefect tells it: each chapter a task under its plain name, each run named after its evening."""

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
"""Seconds after which an evening is lost anyway: a run that hangs must not stand in the next one's way."""

PATIENCE = 1800.0
"""Seconds that a run waits for another one of the same universe."""


def task(
    name: str, *, run_name: str = "", timeout: float | None = None, **retries: Any
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return a decorator that makes a function a task; nothing of it is cached or pickled.

    Args:
        name: What the chapter is called; its duration is logged under it.
        run_name: Prefect's template of the run's name, of the function's arguments; default: `name`.
        timeout: Seconds after which it is stopped.
        retries: Prefect's options of retrying.
    """

    def tell(work: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(work)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            begun = time.monotonic()
            try:
                return work(*args, **kwargs)
            finally:
                log_quietly(f"{name}: {time.monotonic() - begun:.1f} s")

        options = {"cache_policy": NO_CACHE, "persist_result": False, "timeout_seconds": timeout, **retries}
        return prefect_task(timed, name=name, task_run_name=run_name or name, **options)  # type: ignore[call-overload, no-any-return]

    return tell


@contextmanager
def open_locked_run(config: Path | None, home: Path | None, now: datetime | None) -> Iterator[Run]:
    """Open the run and hold its universe's lock; the flow run is called after the universe.

    Who waited opens the run again: the clock has gone on, and files were read when their last bar may not have closed.

    Raises:
        InputError: the settings, the universe, the files they name or the workspace cannot be used.
        WorkspaceBusyError: another run held the lock for longer than PATIENCE.
    """
    run, waits = open_run(config, home, now), []

    def wait(line: str) -> None:
        waits.append(line)
        log_line(line)

    with run.workspace.locked(run.name, timeout=PATIENCE, log=wait):
        label_flow_run(run)
        yield open_run(config, home, now) if waits else run


def label_flow_run(run: Run, as_of: pd.Timestamp | None = None) -> None:
    """Name and tag the flow run that is under way by universe and session; outside of one there is nothing to label.

    Tags stand on the flow run alone: a tagged task asks the server for a slot before it may begin.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    words = [run.name, f"{as_of:%Y-%m-%d}"] if as_of is not None else [run.name]
    tags = sorted({*context.flow_run.tags, "nextday", *words})
    with suppress(*PREFECT_ERRORS), get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, name=" ".join(words), tags=tags)
