"""Other machines that train: the executor of a Dask scheduler, where the settings name one."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from flows.progress import note
from pipeline.errors import InputError, NextdayError

__all__ = ["join_cluster"]

_PATIENCE = 20
"""Seconds that a scheduler may take to answer."""


@contextmanager
def join_cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """Give the executor of the scheduler at `address`, and how many workers it has: they have to see the workspace.

    Raises:
        InputError: Dask is not installed.
        NextdayError: no scheduler answers there, or it has no worker.
    """
    if find_spec("distributed") is None:
        raise InputError(
            "Training on other machines needs Dask, which is not installed",
            where="[training] scheduler; the extra `dask` of nextday",
            way_out="in the checkout: .venv/bin/pip install --constraint requirements.lock --editable '.[dask]'",
        )
    from distributed import Client

    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            address, timeout=_PATIENCE, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise NextdayError(
            f"No Dask scheduler answers: {str(error).splitlines()[0]}",
            where=f"[training] scheduler = {address}",
            way_out="start one (`dask scheduler`) and workers (`dask worker`), or leave the setting empty",
        ) from None
    with client:
        workers = client.scheduler_info()["workers"]
        if not workers:
            raise NextdayError(
                "The Dask scheduler has no worker yet",
                where=f"[training] scheduler = {address}",
                way_out="start some: `dask worker ADDRESS --nthreads 1`, in this environment",
            )
        note(f"training by {len(workers)} workers of {address}")
        with client.get_executor() as executor:
            yield executor, len(workers)
