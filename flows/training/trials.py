"""The trials of the run's universe: how many settings were tried."""

from datetime import datetime

from flows.runtime.context import Run
from pipeline.errors import StoreError
from pipeline.tracking.trials import TrialBook, count_settings

__all__ = ["describe_trials"]


def describe_trials(run: Run, until: datetime | None = None) -> str:
    """Return a sentence on how many settings were tried on the universe.

    Args:
        run: The run.
        until: Leave out the trials of later runs; default: count all of them.
    """
    try:
        return count_settings(TrialBook(run.workspace.trials(run.name)).read(until)).sentence
    except StoreError as error:
        return f"The number of settings tried is unknown. {error.what}."
