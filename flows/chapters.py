"""The story as Prefect tells it: each chapter a task under its plain name, each run named after its evening."""

import functools
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from prefect import Task, get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from flows.progress import PREFECT_ERRORS, note

__all__ = ["A_NIGHT", "chapter", "name_flow_run"]

P = ParamSpec("P")
R = TypeVar("R")

A_NIGHT = 12 * 3600.0
"""Seconds after which an evening is lost anyway: a run that hangs must not stand in the next one's way."""


def chapter(
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
                note(f"{name}: {time.monotonic() - begun:.1f} s")

        options = {"cache_policy": NO_CACHE, "persist_result": False, "timeout_seconds": timeout, **retries}
        return task(timed, name=name, task_run_name=run_name or name, **options)  # type: ignore[call-overload, no-any-return]

    return tell


def name_flow_run(name: str) -> None:
    """Call the flow run that is under way `name`; outside of one there is nothing to name."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with suppress(*PREFECT_ERRORS), get_client(sync_client=True) as client:
        client.set_flow_run_name(context.flow_run.id, name)
