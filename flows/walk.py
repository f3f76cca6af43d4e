"""The walk through history: the procedure is fitted anew, fold after fold, and forecasts what follows each fit."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

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
from pipeline.scores import best_baseline
from pipeline.walkforward import Fold

__all__ = ["BEST_BEFORE", "walk_history"]

BEST_BEFORE: Final = "best_before"
"""The baseline of a walk: in each fold the one that was best on the sessions before its test."""


@chapter("walk forward")
def walk_history(
    run: Run, known: History, folds: list[Fold], workshop: Workshop
) -> tuple[Walk, pd.DataFrame]:
    """Fit the network and every baseline on each fold, and forecast its test.

    Args:
        run: The run.
        known: The history.
        folds: In order of time.
        workshop: Where the networks are trained.

    Returns:
        The walk, whose `before` holds the rows before the first test alone, with the forecasts of BEST_BEFORE among its
        test rows; and the networks' epochs.
    """
    model = run.config.model.name
    walks: list[Walk] = []
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
            walks.append(_with_best(drop_left_out(walk, fitted, known.sequences.symbols), model))
            epochs.append(epoch_table(fitted, f"fold {number}"))
    test = pd.concat([walk.test.assign(fold=n) for n, walk in enumerate(walks, 1)], ignore_index=True)
    return replace(walks[-1], before=walks[0].before, test=test), pd.concat(epochs, ignore_index=True)


def _with_best(walk: Walk, model: str) -> Walk:
    """Add the test rows of the baseline that was best before this fold's test, of each horizon by itself."""
    rules = walk.before[walk.before["model"] != model]
    best = []
    for horizon in sorted(walk.test["horizon"].unique()):
        name = best_baseline(select_horizon(rules, horizon))
        rows = select_horizon(walk.test, horizon)
        best.append(rows[rows["model"] == name].assign(model=BEST_BEFORE, chosen=name))
    return replace(walk, test=pd.concat([walk.test.assign(chosen=""), *best], ignore_index=True))


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
