"""The hyperparameter search: run trials inside the training data, one after another, and record each of them.

It is a flow, because it fetches prices as the others do, takes hours, and can be watched in Prefect's UI. It has no
schedule: searching every week would mean choosing by luck every week.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import flow

from flows.prices.update import update_prices
from flows.runtime.context import Run, open_run
from flows.runtime.custom_code import digest_code_of
from flows.runtime.progress import bar, log_line, log_quietly
from flows.runtime.progress_bars import Advance
from flows.runtime.tasks import open_locked_run
from flows.search.objective import (
    Inside,
    base_rate_losses,
    cut_history,
    trial_network,
    validate_slice,
)
from flows.search.processes import Processes
from flows.search.sampler import ask
from flows.search.space import (
    configured_parameters,
    longest_lookback,
    round_parameters,
    space_around,
    with_parameters,
)
from flows.training.compute import require_gpu
from flows.training.history import History, make_sequences
from models.errors import ModelError
from models.training.process_pool import LostProcessError
from pipeline.config import Config, digest
from pipeline.errors import ConfigError, InputError
from pipeline.forecasting.inner_folds import FOLDS
from pipeline.storage.files import hold_lock
from pipeline.tracking.trials import (
    Parameters,
    State,
    Trial,
    TrialBook,
    TrialCounts,
    count_settings,
    digest_procedure,
)

if TYPE_CHECKING:
    from optuna import Trial as OptunaTrial

__all__ = ["Search", "search", "search_inside"]


@dataclass(frozen=True)
class Search:
    """The result of a search.

    Attributes:
        trials: All trials of this search, in order; the first has the configured settings.
        configured: The configured parameters.
        base_rate: The log loss of the base rate, mean over sessions.
        slices: First and last session of each validation slice.
        as_of: The last session of the prices that the training data was taken from.
        tried: How many settings were ever tried on the universe.
    """

    trials: list[Trial]
    configured: Parameters
    base_rate: float
    slices: list[tuple[pd.Timestamp, pd.Timestamp]]
    as_of: pd.Timestamp
    tried: TrialCounts


@flow(name="search", persist_result=False)
def search(
    config: Path | None = None,
    home: Path | None = None,
    now: datetime | None = None,
    *,
    trials: int = 20,
    minutes: float | None = None,
    anew: bool = False,
) -> Search:
    """Run `trials` more trials; nightly runs may go on meanwhile.

    A search keeps using the prices that it started with, so that all of its trials cover the same sessions.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
        trials: How many; the first of a search has the configured settings.
        minutes: Time after which no new trial starts; default: no limit.
        anew: Start a new search, with today's prices.

    Raises:
        ConfigError: the model is a custom one.
        InputError: there is too little history for inner folds, or [model] scope is "symbol".
        WorkspaceBusyError: another search of the universe is running.
    """
    run = open_run(config, home, now)
    if run.config.model.scope == "symbol":
        raise InputError(
            "A search compares settings on rows that all of its networks forecast; per-symbol models lack some of them",
            where='[model] scope = "symbol"',
            fix='search with scope = "pooled" in another file (--config)',
        )
    if not run.config.model.is_network:
        has = (
            "the options of a custom model" if run.config.model.is_custom else "a classifier, which has none"
        )
        raise ConfigError(
            f"A search tries settings of nextday's networks; it cannot search {has}",
            where=f"[model] kind = {run.config.model.kind!r}",
            fix="compare settings with `nextday backtest`, or search with kind = 'gru' in another file (--config)",
        )
    require_gpu(run)
    lock = run.workspace.home / "locks" / f"{run.name}.search.lock"
    with hold_lock(lock, 0, f"a search of the universe {run.name!r}"):
        with open_locked_run(config, home, now) as run:
            inside = cut_history(run, _history(run, anew), longest_lookback(run.config))
        with Processes() as processes:
            return search_inside(run, inside, processes, trials=trials, minutes=minutes)


def search_inside(
    run: Run,
    inside: Inside,
    processes: Processes | None = None,
    *,
    trials: int,
    minutes: float | None = None,
) -> Search:
    """Run `trials` more trials on the data of the search, and record each as soon as it ends.

    Args:
        run: The run of the search.
        inside: Its data.
        processes: Where the networks are fitted; None: in this process, which keeps what each compiles.
        trials: How many.
        minutes: Time after which no new trial starts; default: no limit.
    """
    book, started = TrialBook(run.workspace.trials(run.name)), time.monotonic()
    past = _of_this_search(book.read(), run, inside)
    with bar("search", trials * FOLDS) as advance:
        for done in range(trials):
            if minutes is not None and time.monotonic() - started >= 60 * minutes:
                log_line(f"the time is up after {done} of {trials} trials; the same command continues")
                break
            trial = _run_trial(run, inside, past, advance, processes)
            book.add(trial)
            past.append(trial)
    sessions = inside.sequences.sessions
    return Search(
        trials=past,
        configured=configured_parameters(run.config),
        base_rate=float(base_rate_losses(inside, refit=run.config.training.refit).mean()),
        slices=[(sessions[fold.test.start], sessions[fold.test.stop - 1]) for fold in inside.folds],
        as_of=inside.as_of,
        tried=count_settings(book.read()),
    )


def _history(run: Run, anew: bool) -> History:
    """Return the history that the latest search of these settings started with; today's if there is none."""
    study, newest = _digest_study(run), f"{run.last_closed:%Y-%m-%d}"
    earlier = [
        trial
        for trial in TrialBook(run.workspace.trials(run.name)).read()
        if trial.study == study and trial.as_of <= newest
    ]
    if earlier and not anew:
        last = earlier[-1]
        log_line(f"continuing the search on the prices through {last.as_of}; --anew starts a new one")
        return make_sequences(run, pd.Timestamp(last.as_of), last.data_version)
    price_status = update_prices(run)
    return make_sequences(run, price_status.as_of, price_status.seq)


def _digest_study(run: Run) -> str:
    """Return a digest of what the trials of one search share, apart from the prices."""
    space = {setting: repr(choices) for setting, choices in space_around(run.config).items()}
    members = {key: run.resolved[key] for key in ("members", "sectors") if key in run.resolved}
    return digest({"procedure": digest_procedure(run.config, digest_code_of(run)), "space": space} | members)


def _of_this_search(trials: Iterable[Trial], run: Run, inside: Inside) -> list[Trial]:
    this = (_digest_study(run), f"{inside.as_of:%Y-%m-%d}", inside.seq)
    return [trial for trial in trials if (trial.study, trial.as_of, trial.data_version) == this]


def _run_trial(
    run: Run, inside: Inside, past: list[Trial], advance: Advance, processes: Processes | None
) -> Trial:
    number, configured = len(past), configured_parameters(run.config)
    space = space_around(run.config)
    optuna_trial = ask(space, past, configured, (run.config.training.seed, number))
    drawn = round_parameters(optuna_trial.params, space) if past else configured
    config = with_parameters(run.config, drawn)
    state, slices = _validate_slices(optuna_trial, _validate(run, inside, config, processes), advance)
    losses = np.concatenate([np.empty(0), *slices])
    return Trial(
        kind="search",
        when=run.clock(),
        digest=digest_procedure(config, digest_code_of(run)),
        state=state,
        parameters=configured_parameters(config),
        objective=float(losses.mean()) if slices else None,
        folds=tuple(float(part.mean()) for part in slices),
        sessions=len(losses),
        losses=tuple(np.round(losses, 8).tolist()),
        as_of=f"{inside.as_of:%Y-%m-%d}",
        data_version=inside.seq,
        study=_digest_study(run),
        number=number,
    )


def _validate(
    run: Run, inside: Inside, config: Config, processes: Processes | None
) -> Iterator[NDArray[np.float64]]:
    """Yield the losses of one validation slice after another."""
    network = trial_network(run, config, inside.sequences.outputs)
    if processes is not None:
        processes.begin_trial()
    validate = validate_slice if processes is None else processes.validate
    for number in range(len(inside.folds)):
        yield validate(inside, run.calendar, network, config, number)


def _validate_slices(
    optuna_trial: "OptunaTrial", validated: Iterator[NDArray[np.float64]], advance: Advance
) -> tuple[State, list[NDArray[np.float64]]]:
    """Validate slice by slice until the last one, or until the trial fails or is pruned."""
    slices: list[NDArray[np.float64]] = []
    state: State = "complete"
    try:
        for losses in validated:
            slices.append(losses)
            advance(
                f"trial {optuna_trial.number}, slice {len(slices)} of {FOLDS}: log loss {losses.mean():.5f}"
            )
            optuna_trial.report(float(losses.mean()), len(slices) - 1)
            if optuna_trial.number and len(slices) < FOLDS and optuna_trial.should_prune():
                state = "pruned"
                break
    except ModelError as error:
        # Without the configured settings there is nothing to compare with; a lost process is no fault of any settings.
        if not optuna_trial.number or isinstance(error, LostProcessError):
            raise
        state, slices = "failed", []
        log_quietly(f"trial {optuna_trial.number} failed: {error.what}")
    for _ in range(len(slices), FOLDS):
        advance(f"trial {optuna_trial.number} {state}")
    return state, slices
