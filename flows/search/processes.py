"""The processes that a search fits its networks in, a few trials each.

TensorFlow keeps every graph that it has compiled until its process ends: in one process, a search would grow by 60 MB a
trial, for nearly every trial has another network.
"""

from typing import Final

from flows.search.objective import Inside, Losses, validate_slice
from models.training.process_pool import LocalWorkers
from pipeline.config import Config
from pipeline.forecasting.model import EnsembleModel
from pipeline.market.calendar import Calendar

__all__ = ["TRIALS_EACH", "Processes"]

TRIALS_EACH: Final = 8
"""Trials that one process fits: it takes about as long to start as a small network to fit."""


class Processes:
    """Fits the slices of trials in a process that is replaced every TRIALS_EACH trials; a context manager."""

    def __init__(self) -> None:
        self._begun, self._worker = 0, _start()

    def __enter__(self) -> "Processes":
        """Return the processes."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the process."""
        self._worker.shutdown(wait=False)

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes: one, or none."""
        return self._worker.pids

    def begin_trial(self) -> None:
        """Replace the process if it has fitted enough."""
        if self._begun and self._begun % TRIALS_EACH == 0:
            self._worker.shutdown(wait=False)
            self._worker = _start()
        self._begun += 1

    def validate(
        self, inside: Inside, calendar: Calendar, network: EnsembleModel, config: Config, number: int
    ) -> Losses:
        """Return what `objective.validate_slice` returns, computed by the process.

        Raises:
            ModelError: the network cannot be fitted, or the process was lost twice.
        """
        return self._worker.submit(validate_slice, inside, calendar, network, config, number).result()


def _start() -> LocalWorkers:
    worker = LocalWorkers(1, ready=validate_slice.__module__)
    worker.start()
    return worker
