"""The walk through history: the procedure is fitted anew, fold after fold, and forecasts what follows each fit."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from flows.chapters import chapter
from flows.epochs import epoch_table, folds_shown, plan_epochs
from flows.progress import say
from flows.recipe import choose_start, make_baselines, make_recipe
from flows.run import Run
from flows.scope import drop_left_out, symbols_named
from flows.training import History
from flows.workshop import Workshop
from pipeline.backtest import Fitted, Model, Walk, walk_forward
from pipeline.horizons import select_horizon
from pipeline.schema import FORECAST_KEY
from pipeline.scores import best_baseline
from pipeline.walkforward import Fold

__all__ = ["BEST_BEFORE", "walk_history"]

BEST_BEFORE: Final = "best_before"
"""The baseline of a walk: in each fold the one that was best on the sessions before its test."""

_SCORED: Final = [*FORECAST_KEY, "fold", "model", "p_up", "direction", "outcome", "realized_return", "chosen"]
"""What is kept of a method's rows; the network's are kept whole, beside them."""


@chapter("walk forward")
def walk_history(
    run: Run, known: History, folds: list[Fold], workshop: Workshop
) -> tuple[Walk, pd.DataFrame, pd.DataFrame]:
    """Fit the network and every baseline on each fold, and forecast its test.

    Args:
        run: The run.
        known: The history.
        folds: In order of time.
        workshop: Where the networks are trained.

    Returns:
        The walk, whose `before` holds the rows before the first test alone, and whose test rows are those of every
        method and of BEST_BEFORE, without band and base rate; the networks' own test rows, whole; and their epochs.
    """
    model = run.config.model.name
    before, tests = pd.DataFrame(), {column: list[pd.Series]() for column in _SCORED}
    own: list[pd.DataFrame] = []
    epochs: list[pd.DataFrame] = []
    fitted: Fitted | None = None
    planned = plan_epochs(run.config, len(known.sequences.symbols))
    shown = folds_shown("walk forward", len(folds), *planned)
    with shown as next_fold, symbols_named(known.sequences.symbols):
        for number, fold in enumerate(folds, start=1):
            first, last = (known.sequences.sessions[row] for row in (fold.test.start, fold.test.stop - 1))
            say(f"fold {number} of {len(folds)}: forecasting from {first:%Y-%m-%d} to {last:%Y-%m-%d}")
            walk = _walk(run, known, fold, _models(run, next_fold(), workshop, fitted, fold))
            fitted = walk.fitted[model]
            walk = drop_left_out(walk, fitted, known.sequences.symbols)
            walk = replace(walk, test=walk.test.assign(fold=np.int16(number)))
            before = walk.before if number == 1 else before
            own.append(walk.test[walk.test["model"] == model])
            for column, values in _with_best(walk, model).items():
                tests[str(column)].append(values.copy())
            epochs.append(epoch_table(fitted, f"fold {number}"))
    # Column by column: a second copy of the whole would be the most memory that a backtest takes.
    test = pd.DataFrame({name: pd.concat(tests.pop(name), ignore_index=True) for name in _SCORED}, copy=False)
    walked = replace(walk, before=before, test=test)
    return walked, pd.concat(own, ignore_index=True), pd.concat(epochs, ignore_index=True)


def _with_best(walk: Walk, model: str) -> pd.DataFrame:
    """Return the test rows, and those of the baseline that was best before this test once more, horizon by horizon."""
    rules, rows = walk.before[walk.before["model"] != model], walk.test
    names = pd.CategoricalDtype([*rows["model"].cat.categories, BEST_BEFORE, ""])
    parts = [rows.astype({"model": names}).assign(chosen=pd.Categorical([""] * len(rows), dtype=names))]
    for horizon in sorted(rows["horizon"].unique()):
        name = best_baseline(select_horizon(rules, horizon))
        best = select_horizon(rows, horizon)[lambda each, name=name: each["model"] == name]
        told = {"model": [BEST_BEFORE] * len(best), "chosen": [name] * len(best)}
        parts.append(
            best.assign(**{column: pd.Categorical(each, dtype=names) for column, each in told.items()})
        )
    return pd.concat([part[_SCORED] for part in parts], ignore_index=True)


def _models(
    run: Run, progress: Callable[[Any], None], workshop: Workshop, former: Fitted | None, fold: Fold
) -> dict[str, Model]:
    features = run.feature_set()
    start = choose_start(run, former, fold) if former is not None else None
    network = make_recipe(run, features, progress, workshop, start)
    return {run.config.model.name: network, **make_baselines(run, features)}


def _walk(run: Run, known: History, fold: Fold, models: Mapping[str, Model]) -> Walk:
    return walk_forward(
        models,
        known.sequences,
        [fold],
        run.calendar,
        returns=known.returns,
        dead_zone=run.config.labels.dead_zone,
        seed=run.config.training.seed,
        tell=lambda name: None,
    )
