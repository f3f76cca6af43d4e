"""Train a procedure, score it on sessions it never saw, then fit it once more through tonight."""

import shutil
from typing import Any, cast

import pandas as pd

from flows.runtime.context import Run
from flows.runtime.custom_code import note_code
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.compute import Compute
from flows.training.epochs import epoch_table, epochs_shown, plan_epochs
from flows.training.history import History
from flows.training.model_factory import choose_start, make_baselines, make_recipe
from flows.training.per_symbol import drop_skipped_symbols, symbols_named
from models.ensembles.model_files import model_version
from pipeline.forecasting.folds import Fold, final_fold, scoring_fold
from pipeline.forecasting.model import FittedEnsemble, Model, submit
from pipeline.forecasting.walk_forward import Walk, mask_labels, walk_forward

__all__ = ["fitted_network", "train_champion", "train_procedure"]


@task("train")
def train_procedure(run: Run, known: History, workshop: Compute) -> tuple[Walk, pd.DataFrame, Fold]:
    """Fit the network and every baseline with the test held back, and forecast the test.

    Args:
        run: The run.
        known: The history.
        workshop: Where the network is trained.

    Returns:
        The walk, the network's epochs, and the fold.
    """
    fold = scoring_fold(known.sequences, run.config.evaluation, run.config.training)
    features, planned = run.feature_set(), plan_epochs(run.config, len(known.sequences.symbols))
    with epochs_shown("train to score", *planned) as progress, symbols_named(known.sequences.symbols):
        models: dict[str, Model] = {run.config.model.name: make_recipe(run, features, progress, workshop)}
        models |= make_baselines(run, features)
        walk = walk_forward(
            models,
            known.sequences,
            [fold],
            run.calendar,
            returns=known.returns,
            dead_zone=run.config.labels.dead_zone,
            seed=run.config.training.seed,
            progress=lambda name: log_line(f"fitting {name}"),
        )
    network = fitted_network(run, walk)
    return drop_skipped_symbols(walk, network, known.sequences.symbols), epoch_table(network, "score"), fold


def fitted_network(run: Run, walk: Walk) -> FittedEnsemble:
    """Return the fit of the settings' own model in a walk; the other models are baselines."""
    return cast(FittedEnsemble, walk.fitted[run.config.model.name])


@task("train the champion")
def train_champion(
    run: Run, known: History, workshop: Compute, scored: FittedEnsemble
) -> tuple[str, pd.DataFrame, Fold]:
    """Fit the same procedure through as_of and keep its files.

    Args:
        run: The run.
        known: The history.
        workshop: Where it is trained.
        scored: The fit of `train_procedure`, to go on from where the settings say so.

    Returns:
        The model's version, its epochs, and its fold.
    """
    fold = final_fold(known.sequences, run.config.training)
    taught = mask_labels(known.sequences, fold, known.returns, run.config.labels.dead_zone)
    features, start = run.feature_set(), choose_start(run, scored, fold)
    planned = plan_epochs(run.config, len(known.sequences.symbols))
    with epochs_shown("train champion", *planned) as progress, symbols_named(known.sequences.symbols):
        recipe = make_recipe(run, features, progress, workshop, start)
        champion = submit(recipe, taught, fold, run.config.training.seed).result()
    half = run.workspace.model(run.name, ".new")
    shutil.rmtree(half, ignore_errors=True)
    champion.save(half, extra=_facts(run, known, champion))
    version = model_version(half)
    whole = run.workspace.model(run.name, version)
    if whole.exists() and model_version(whole) != version:
        shutil.rmtree(whole)  # damaged; it has just been made again
    if whole.exists():
        shutil.rmtree(half)
    else:
        half.replace(whole)
    log_line(f"champion {version} fitted through {known.as_of:%Y-%m-%d}")
    for row, reason in champion.left_out.items():
        log_line(f"{known.sequences.symbols[row]} has no model of its own: {reason}")
    return version, epoch_table(champion, "champion"), fold


def _facts(run: Run, known: History, champion: FittedEnsemble) -> dict[str, Any]:
    row = champion.start
    start = None if row is None else f"{known.sequences.sessions[row]:%Y-%m-%d}"
    return {
        "universe": run.name,
        "start": start,
        "symbols": list(known.sequences.symbols),
        "features": run.config.features.set,
        "model": run.config.model.kind,
        "trained_through": f"{known.as_of:%Y-%m-%d}",
        "data_version": known.seq,
        "config_digest": run.digest,
        "settings": run.resolved["settings"],
        **note_code(run),
    }
