"""The search: try settings inside the training data, one trial after another, and write every one of them down.

It is a flow, for it fetches prices as the others do, takes hours, and is followed in Prefect's pages; but one without
a schedule: a search every week would be a choice by chance every week.
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
from flows.search.objective import Inside, base_rate_losses, cut_history, validate
from flows.search.sampler import ask
from flows.search.space import (
    configured_parameters,
    longest_lookback,
    round_parameters,
    space_around,
    with_parameters,
)
from flows.training.history import History, make_sequences
from models.errors import ModelError
from pipeline.config import digest
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
    from optuna import Trial as Asked

__all__ = ["Search", "search", "search_inside"]


@dataclass(frozen=True)
class Search:
    """What a search came to.

    Attributes:
        trials: All of this search, in their order; the first is of the configured settings.
        configured: Their parameters.
        base_rate: Mean over sessions of the log loss of whoever says the base rate.
        slices: First and last session of each slice that validated.
        as_of: The last session of the prices that training data was cut from.
        tried: Every setting that was ever tried on the universe.
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
    """Try `trials` more settings; evenings may run meanwhile.

    A search goes on with the prices that it began with, so that all of its trials stand on the same sessions.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
        trials: How many; the first of a search is of the configured settings.
        minutes: After so many no trial begins.
        anew: Begin another search, with the prices of today.

    Raises:
        ConfigError: the model is one of the user's own.
        InputError: there is too little history to be cut again.
        WorkspaceBusyError: another search of the universe is at work.
    """
    run = open_run(config, home, now)
    if run.config.model.scope == "symbol":
        raise InputError(
            "A search compares settings on rows that all of its networks forecast; models of single symbols lack some",
            where='[model] scope = "symbol"',
            fix='search with scope = "pooled" in a file of its own (--config)',
        )
    if run.config.model.is_custom:
        raise ConfigError(
            "A search tries settings of nextday's networks; those of a model of your own are not known to it",
            where=f"[model] kind = {run.config.model.kind!r}",
            fix="compare its options by `nextday backtest`, or search with kind = 'gru' in another file (--config)",
        )
    lock = run.workspace.home / "locks" / f"{run.name}.search.lock"
    with hold_lock(lock, 0, f"a search of the universe {run.name!r}"):
        with open_locked_run(config, home, now) as run:
            inside = cut_history(run, _history(run, anew), longest_lookback(run.config))
        return search_inside(run, inside, trials=trials, minutes=minutes)


def search_inside(run: Run, inside: Inside, *, trials: int, minutes: float | None = None) -> Search:
    """Try `trials` more settings on what a search sees, and write each down as soon as it is over."""
    book, began = TrialBook(run.workspace.trials(run.name)), time.monotonic()
    past = _of_this_search(book.read(), run, inside)
    with bar("search", trials * FOLDS) as advance:
        for made in range(trials):
            if minutes is not None and time.monotonic() - began >= 60 * minutes:
                log_line(f"the time is up after {made} of {trials} trials; the same command goes on")
                break
            trial = _try(run, inside, past, advance)
            book.add(trial)
            past.append(trial)
    sessions = inside.sequences.sessions
    return Search(
        trials=past,
        configured=configured_parameters(run.config),
        base_rate=float(base_rate_losses(inside).mean()),
        slices=[(sessions[fold.test.start], sessions[fold.test.stop - 1]) for fold in inside.folds],
        as_of=inside.as_of,
        tried=count_settings(book.read()),
    )


def _history(run: Run, anew: bool) -> History:
    """Return the prices that the latest search of these settings began with; today's where there is none."""
    study, known_by_now = _study(run), f"{run.last_closed:%Y-%m-%d}"
    earlier = [
        trial
        for trial in TrialBook(run.workspace.trials(run.name)).read()
        if trial.study == study and trial.as_of <= known_by_now
    ]
    if earlier and not anew:
        last = earlier[-1]
        log_line(f"going on with the search on the prices through {last.as_of}; --anew begins another")
        return make_sequences(run, pd.Timestamp(last.as_of), last.data_version)
    market = update_prices(run)
    return make_sequences(run, market.as_of, market.seq)


def _study(run: Run) -> str:
    """Return what the trials of one search have in common, beside the prices."""
    space = {place: repr(choices) for place, choices in space_around(run.config).items()}
    facts = {
        "procedure": digest_procedure(run.config, digest_code_of(run)),
        "members": run.resolved["members"],
        "space": space,
    }
    return digest(facts)


def _of_this_search(trials: Iterable[Trial], run: Run, inside: Inside) -> list[Trial]:
    this = (_study(run), f"{inside.as_of:%Y-%m-%d}", inside.seq)
    return [trial for trial in trials if (trial.study, trial.as_of, trial.data_version) == this]


def _try(run: Run, inside: Inside, past: list[Trial], advance: Advance) -> Trial:
    number, configured = len(past), configured_parameters(run.config)
    space = space_around(run.config)
    asked = ask(space, past, configured, (run.config.training.seed, number))
    parameters = round_parameters(asked.params, space) if past else configured
    config = with_parameters(run.config, parameters)
    state, slices = _follow(asked, validate(run, inside, config), advance)
    losses = np.concatenate([np.empty(0), *slices])
    return Trial(
        kind="search",
        when=run.clock(),
        digest=digest_procedure(config, digest_code_of(run)),
        state=state,
        parameters=parameters,
        objective=float(losses.mean()) if slices else None,
        folds=tuple(float(part.mean()) for part in slices),
        sessions=len(losses),
        losses=tuple(np.round(losses, 8).tolist()),
        as_of=f"{inside.as_of:%Y-%m-%d}",
        data_version=inside.seq,
        study=_study(run),
        number=number,
    )


def _follow(
    asked: "Asked", validated: Iterator[NDArray[np.float64]], advance: Advance
) -> tuple[State, list[NDArray[np.float64]]]:
    """Validate slice by slice until the last one, until the trial fails, or until it is not worth going on."""
    slices: list[NDArray[np.float64]] = []
    state: State = "complete"
    try:
        for losses in validated:
            slices.append(losses)
            advance(f"trial {asked.number}, slice {len(slices)} of {FOLDS}: log loss {losses.mean():.5f}")
            asked.report(float(losses.mean()), len(slices) - 1)
            if asked.number and len(slices) < FOLDS and asked.should_prune():
                state = "pruned"
                break
    except ModelError as error:
        if not asked.number:  # nothing can be compared with settings that do not work
            raise
        state, slices = "failed", []
        log_quietly(f"trial {asked.number} failed: {error.what}")
    for _ in range(len(slices), FOLDS):
        advance(f"trial {asked.number} {state}")
    return state, slices
