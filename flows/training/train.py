"""Train the procedure with its test range held back, then fit it once more through tonight as the champion."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from flows.runtime.context import Run
from flows.runtime.custom_code import note_code
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.compute import Compute
from flows.training.epochs import epoch_table, epochs_shown, plan_epochs
from flows.training.history import History
from flows.training.load_models import load_own
from flows.training.model_factory import choose_start, make_baselines, make_recipe
from flows.training.per_symbol import drop_skipped_symbols, symbols_named
from models.ensembles import custom_ensemble
from models.ensembles.model_files import model_version, read_metadata
from pipeline.errors import NextdayError
from pipeline.evaluation.timing_and_picking import find_best
from pipeline.features.columns import FeatureSet
from pipeline.forecasting.folds import Fold, final_fold, require_labels, scoring_fold
from pipeline.forecasting.model import FittedEnsemble, Model, submit
from pipeline.forecasting.walk_forward import Walk, mask_labels, walk_forward
from pipeline.outputs import DIRECTION, Output

__all__ = ["MAX_DIFFERENCE", "fitted_network", "train_champion", "train_procedure"]

MAX_DIFFERENCE: Final = 1e-6
"""Largest difference in p_up between the network as trained, in float32, and as it serves, in float64."""


@task("train")
def train_procedure(run: Run, known: History, compute: Compute) -> tuple[Walk, pd.DataFrame, Fold]:
    """Fit the network and every baseline with the test range held back, and forecast the test range.

    Args:
        run: The run.
        known: The history.
        compute: Where the network is trained.

    Returns:
        The walk, the network's epochs (see `epoch_table`), and the fold.
    """
    fold = scoring_fold(known.sequences, run.config.evaluation, run.config.training)
    require_labels(known.sequences, fold, "the fit that is scored")
    features, planned = (
        run.feature_set(outputs=known.sequences.outputs),
        plan_epochs(run.config, len(known.sequences.symbols)),
    )
    with epochs_shown("train to score", *planned) as progress, symbols_named(known.sequences.symbols):
        models: dict[str, Model] = {
            run.config.model.name: make_recipe(run, features, len(known.sequences.outputs), progress, compute)
        }
        models |= make_baselines(run, features, known.sequences.outputs)
        walk = walk_forward(
            models,
            known.sequences,
            [fold],
            run.calendar,
            dead_zone=run.config.labels.dead_zone,
            seed=run.config.training.seed,
            refit=run.config.training.refit,
            progress=lambda name: log_line(f"fitting {name}"),
        )
    network = fitted_network(run, walk)
    walk = drop_skipped_symbols(walk, network, known.sequences.symbols)
    best = find_best(walk.before[walk.before["model"] != run.config.model.name]).assign(fold=1)
    return replace(walk, best=best), epoch_table(network, "score"), fold


def fitted_network(run: Run, walk: Walk) -> FittedEnsemble:
    """Return the fit of the settings' own model in a walk; the other models are baselines."""
    return cast(FittedEnsemble, walk.fitted[run.config.model.name])


@task("train the champion")
def train_champion(
    run: Run, known: History, compute: Compute, scored: FittedEnsemble
) -> tuple[str, pd.DataFrame, Fold]:
    """Fit the same procedure through as_of and save the model.

    Args:
        run: The run.
        known: The history.
        compute: Where it is trained.
        scored: The fit of `train_procedure`, whose weights are the start if [training] warm_start is set.

    Returns:
        The model's version, its epochs (see `epoch_table`), and its fold.
    """
    fold = final_fold(known.sequences, run.config.training)
    require_labels(known.sequences, fold, "the champion's fit")
    refit = run.config.training.refit
    labelled = mask_labels(known.sequences, fold, run.config.labels.dead_zone, refit=refit)
    features, start = run.feature_set(outputs=known.sequences.outputs), choose_start(run, scored, fold)
    planned = plan_epochs(run.config, len(known.sequences.symbols))
    with epochs_shown("train champion", *planned) as progress, symbols_named(known.sequences.symbols):
        recipe = make_recipe(run, features, len(known.sequences.outputs), progress, compute, start)
        champion = submit(recipe, labelled, fold, run.config.training.seed).result()
    draft = run.workspace.model(run.name, ".new")
    shutil.rmtree(draft, ignore_errors=True)
    champion.save(draft, extra=_metadata(run, known, champion))
    _require_same_forecasts(champion, draft, known)
    version = model_version(draft)
    folder = run.workspace.model(run.name, version)
    if folder.exists() and model_version(folder) != version:
        shutil.rmtree(folder)  # damaged: replaced by the new fit
    if folder.exists():
        shutil.rmtree(draft)
    else:
        draft.replace(folder)
    log_line(f"champion {version} fitted through {known.as_of:%Y-%m-%d}")
    for row, reason in champion.left_out.items():
        log_line(f"{known.sequences.symbols[row]} has no model of its own: {reason}")
    return version, epoch_table(champion, "champion"), fold


def _require_same_forecasts(champion: FittedEnsemble, draft: Path, known: History) -> None:
    """Compare the last session's forecasts of the trained network with those of its files, which will serve.

    Raises:
        NextdayError: they differ.
    """
    metadata = read_metadata(draft)
    if metadata["family"] == custom_ensemble.FAMILY:
        return  # custom code forecasts with itself
    first = champion.first_session(len(known.sequences.sessions) - 1)
    block = known.sequences.x[:, first:], known.sequences.mask[:, first:]
    trained, saved = (
        champion.predict(*block).p_up[:, -1],
        load_own(draft, metadata).predict(*block).p_up[:, -1],
    )
    if not np.allclose(trained, saved, rtol=0, atol=MAX_DIFFERENCE, equal_nan=True):
        apart = np.nanmax(np.abs(trained - saved))
        raise NextdayError(
            f"The saved model gives other forecasts than the trained one: p_up differs by up to {apart:.1e}",
            where=str(draft),
            fix="keep the champion that serves, and report this as a fault of nextday with the [model] settings",
        )


def _metadata(run: Run, known: History, champion: FittedEnsemble) -> dict[str, Any]:
    row = champion.start
    start = None if row is None else f"{known.sequences.sessions[row]:%Y-%m-%d}"
    return {
        "universe": run.name,
        "start": start,
        "symbols": list(known.sequences.symbols),
        **_note_features(run, run.feature_set(outputs=known.sequences.outputs)),
        "model": run.config.model.kind,
        "trained_through": f"{known.as_of:%Y-%m-%d}",
        "data_version": known.seq,
        "config_digest": run.digest,
        "settings": run.resolved["settings"],
        **_note_outputs(known.sequences.outputs, run.config.labels.horizons),
        **note_code(run),
    }


def _note_features(run: Run, features: FeatureSet) -> dict[str, Any]:
    """Return the set that the model reads, and what was added to it, if anything."""
    noted: dict[str, Any] = {"features": features.name}
    if features.added:
        noted["added"] = [*features.added]
    if "sector" in features.added:
        noted["sectors"] = run.sectors
    return noted


def _note_outputs(outputs: tuple[Output, ...], horizons: tuple[int, ...]) -> dict[str, list[Output]]:
    """Return what tells the outputs apart where they are others than the directions at the configured horizons."""
    usual = tuple(Output(DIRECTION, horizon) for horizon in horizons)
    return {} if outputs == usual else {"outputs": [*outputs]}
