"""Walk-forward through history: fit the procedure on each fold and forecast the sessions after it."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.compute import Compute
from flows.training.epochs import epoch_table, folds_shown, plan_epochs
from flows.training.history import History
from flows.training.model_factory import choose_start, make_baselines, make_recipe
from flows.training.per_symbol import drop_skipped_symbols, symbols_named
from models.errors import ModelError
from pipeline.evaluation.timing_and_picking import find_best
from pipeline.evaluation.verdict import best_baseline
from pipeline.forecasting.folds import Fold, require_labels
from pipeline.forecasting.model import FittedEnsemble, Model, submit
from pipeline.forecasting.row_collector import RowCollector
from pipeline.forecasting.walk_forward import Walk, mask_labels, walk_forward
from pipeline.outputs import list_outputs, select_output
from pipeline.schema import FORECAST_KEY

__all__ = ["BEST_BEFORE", "fits_at_once", "walk_history"]

BEST_BEFORE: Final = "best_before"
"""The prior-best baseline: in each fold the baseline with the lowest log loss on the sessions before its test."""

_SCORED: Final = [*FORECAST_KEY, "fold", "model", "p_up", "direction", "outcome", "realized_return", "chosen"]
"""The columns kept of every method's rows."""


@task("walk forward")
def walk_history(run: Run, known: History, folds: list[Fold], compute: Compute) -> tuple[Walk, pd.DataFrame]:
    """Fit the network and every baseline on each fold, and forecast its test.

    An executor trains the networks of the next folds in advance, so that its workers never wait for this process; their
    epochs are shown, and their errors raised, when their fold is evaluated.

    Args:
        run: The run.
        known: The history.
        folds: In order of time.
        compute: Trains the networks.

    Returns:
        The walk, whose `before` is empty, `best` the choices of every fold, and whose test rows are those of every
        method and of BEST_BEFORE; the networks' epochs.
    """
    for number, fold in enumerate(folds, start=1):
        require_labels(known.sequences, fold, f"fold {number}")
    model = run.config.model.name
    tests, own = RowCollector(_SCORED), RowCollector()
    best: list[pd.DataFrame] = []
    epochs: list[pd.DataFrame] = []
    fitted: FittedEnsemble | None = None
    planned = plan_epochs(run.config, len(known.sequences.symbols))
    shown = folds_shown("walk forward", len(folds), *planned)
    ahead, coming = _count_ahead(run, compute, planned[0]), deque(folds)
    submitted = deque[Future[FittedEnsemble]]()
    with shown as next_fold, symbols_named(known.sequences.symbols), ExitStack() as stack:
        stack.callback(_cancel_all, submitted)
        for number, fold in enumerate(folds, start=1):
            first, last = (known.sequences.sessions[row] for row in (fold.test.start, fold.test.stop - 1))
            log_line(f"fold {number} of {len(folds)}: forecasting from {first:%Y-%m-%d} to {last:%Y-%m-%d}")
            while coming and len(submitted) <= ahead:
                try:
                    submitted.append(_submit(run, known, coming[0], next_fold(), compute, fitted))
                except ModelError:
                    if submitted:
                        break  # there may be room for it when its fold is evaluated; if not, it is raised then
                    raise
                coming.popleft()
            walk = _walk(run, known, fold, {model: _Submitted(submitted[0])})
            fitted = submitted.popleft().result()
            walk = drop_skipped_symbols(walk, fitted, known.sequences.symbols)
            best.append(_collect(walk, model, number, tests, own))
            epochs.append(epoch_table(fitted, f"fold {number}"))
            methods = walk.fitted
            del walk  # while the next fold is fitted, its rows would lie in memory a second time
    walked = Walk(pd.DataFrame(), tests.join(), methods, own.join(), pd.concat(best, ignore_index=True))
    return walked, pd.concat(epochs, ignore_index=True)


def _collect(walk: Walk, model: str, number: int, tests: RowCollector, own: RowCollector) -> pd.DataFrame:
    """Add a fold's test rows to those of all methods and to the network's own; return the best baselines before it."""
    rows, rules = walk.test.assign(fold=np.int16(number)), walk.before[walk.before["model"] != model]
    own.add(walk.own.assign(fold=np.int16(number)))
    for part in _with_best(rows, rules):
        tests.add(part)
    return find_best(rules).assign(fold=number)


def _with_best(rows: pd.DataFrame, rules: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the test rows, then those of the prior-best baseline of each output.

    Args:
        rows: Of the test.
        rules: The baselines' rows before the test.
    """
    names = pd.CategoricalDtype([*rows["model"].cat.categories, BEST_BEFORE, ""])
    yield rows.astype({"model": names}).assign(chosen=pd.Categorical([""] * len(rows), dtype=names))
    for output in list_outputs(rows):
        name = best_baseline(select_output(rules, output))
        best = select_output(rows, output)[lambda each, name=name: each["model"] == name]
        names_of = {"model": [BEST_BEFORE] * len(best), "chosen": [name] * len(best)}
        yield best.assign(**{column: pd.Categorical(each, dtype=names) for column, each in names_of.items()})


def fits_at_once(run: Run, folds: list[Fold]) -> int:
    """Return how many fits of a walk may train at a time: with a warm start each waits for the one before."""
    return 1 if run.config.training.warm_start else len(folds)


def _count_ahead(run: Run, compute: Compute, members: int) -> int:
    """Return how many folds are submitted in advance: enough for every worker; each keeps its examples in files."""
    if compute.executor is None or run.config.training.warm_start:
        return 0
    return 1 + compute.workers // members


def _submit(
    run: Run,
    known: History,
    fold: Fold,
    progress: Callable[[Any], None],
    compute: Compute,
    former: FittedEnsemble | None,
) -> Future[FittedEnsemble]:
    start = choose_start(run, former, fold) if former is not None else None
    outputs = known.sequences.outputs
    features = run.feature_set(outputs=outputs)
    network = make_recipe(run, features, len(outputs), progress, compute, start)
    training = run.config.training
    inputs = mask_labels(known.sequences, fold, run.config.labels.dead_zone, refit=training.refit)
    return submit(network, inputs, fold, training.seed)


def _cancel_all(submitted: deque[Future[FittedEnsemble]]) -> None:
    for future in submitted:
        future.cancel()


@dataclass(frozen=True)
class _Submitted:
    """The network of one fold as a Model whose fit was submitted before."""

    future: Future[FittedEnsemble]

    def fit(self, *_: Any, **__: Any) -> FittedEnsemble:
        return self.future.result()


def _walk(run: Run, known: History, fold: Fold, network: Mapping[str, Model]) -> Walk:
    outputs = known.sequences.outputs
    return walk_forward(
        {**network, **make_baselines(run, run.feature_set(outputs=outputs), outputs)},
        known.sequences,
        [fold],
        run.calendar,
        dead_zone=run.config.labels.dead_zone,
        seed=run.config.training.seed,
        refit=run.config.training.refit,
        progress=lambda name: None,
    )
