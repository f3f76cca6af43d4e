"""Trainings of a simulation, each in a process that ends: what TensorFlow keeps of one is never freed."""

import os
import signal
from collections.abc import Mapping
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from flows.retrain import retrain
from pipeline.errors import NextdayError

__all__ = ["retrain_apart"]


def retrain_apart(**arguments: Any) -> str:
    """Call the function of the flow `retrain` in a process of its own.

    Returns:
        What became of the model that was trained; empty where nothing was trained.

    Raises:
        NextdayError: the process ended without a result, as when it is killed; or as the flow, whose errors are raised
            here.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_retrain, args=(there, arguments))
    with closing(here):
        process.start()
        there.close()
        try:
            result = here.recv()
        except EOFError:
            raise NextdayError(
                "The process of a training has ended without a result",
                where=f"the training of {arguments['now']:%Y-%m-%d}",
                fix="look for a lack of memory; the same command goes on with this training",
            ) from None
        except BaseException:
            process.kill()
            raise
    process.join()
    if isinstance(result, Exception):
        raise result
    return str(result)


def _retrain(there: Connection, arguments: Mapping[str, Any]) -> None:
    """Train and send the sentence or the error; end at once when the other end is gone, also if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the simulation
    Thread(target=_end_with, args=(there,), daemon=True).start()
    try:
        retrained = retrain.fn(**arguments)
        result: str | Exception = retrained.sentence if retrained.evaluation else ""
    except Exception as error:  # raised again where it can be told
        result = error
    there.send(result)


def _end_with(there: Connection) -> None:
    try:
        there.recv()
    except EOFError:
        os._exit(1)
