"""Trainings of a simulation in a process that ends with each: what TensorFlow keeps of one is never freed."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self

from flows.retrain import retrain
from pipeline.errors import NextdayError

__all__ = ["TrainingProcess"]


class TrainingProcess:
    """Calls the function of the flow `retrain` in another process, which begins with the block.

    One that has trained is ended, and the next one begins beside the evenings that follow. Most calls train nothing,
    because a challenger still waits: they cost no start. The process ends at once with this one, also if it is killed.
    """

    def __enter__(self) -> Self:
        """Start the process."""
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, whatever it does."""
        self._end()

    def retrain(self, **arguments: Any) -> str:
        """Call the flow's function.

        Returns:
            What became of the model that was trained; empty where nothing was trained.

        Raises:
            NextdayError: the process ended without a result, as when it is killed; or as the flow, whose errors are
                raised here.
        """
        result: str | Exception
        try:
            self._connection.send(arguments)
            result = self._connection.recv()
        except (EOFError, OSError):
            result = NextdayError(
                "The process of a training has ended without a result",
                where=f"the training of {arguments['now']:%Y-%m-%d}",
                fix="look for a lack of memory; the same command goes on with this training",
            )
        if result:
            self._end()
            self._start()
        if isinstance(result, Exception):
            raise result
        return result

    def _start(self) -> None:
        context = get_context("spawn")
        self._connection, there = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(there,))
        self._process.start()
        there.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(there: Connection) -> None:
    """Train whenever asked to; end at once when the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the simulation
    asked = SimpleQueue[Mapping[str, Any]]()
    Thread(target=_listen, args=(there, asked), daemon=True).start()
    while True:
        try:
            retrained = retrain.fn(**asked.get())
            result: str | Exception = retrained.sentence if retrained.evaluation else ""
        except Exception as error:  # raised again where it can be told
            result = error
        there.send(result)


def _listen(there: Connection, asked: "SimpleQueue[Mapping[str, Any]]") -> None:
    with suppress(EOFError, OSError):
        while True:
            asked.put(there.recv())
    os._exit(0)
