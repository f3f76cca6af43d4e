"""From the settings to the recipe of a network, and to the fit that it goes on from."""

from collections.abc import Callable
from typing import Any

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.training.compute import Compute
from flows.training.load_models import load_recipe
from models.baselines import baselines
from models.calibration.calibrator import Calibration
from models.ensembles.custom_ensemble import CustomModel
from pipeline.features.feature_sets import UNIVERSE, FeatureSet
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.model import EnsembleModel, FittedEnsemble, Model

__all__ = ["choose_start", "make_baselines", "make_recipe"]


def make_recipe(
    run: Run,
    features: FeatureSet,
    progress: Callable[[Any], None],
    workshop: Compute,
    start: FittedEnsemble | None = None,
) -> EnsembleModel:
    """Return the network of the settings, or the model of the user's own, ready to be fitted.

    Args:
        run: The run.
        features: What it reads.
        progress: Called after every epoch.
        workshop: Where it is trained.
        start: An earlier fit to start from; None: random initialization.
    """
    model, training = run.config.model, run.config.training
    calibration = _calibration(run)
    if model.is_custom:
        return CustomModel(run.own_model(), model.lookback, model.members, progress, calibration)
    recipe, network, settings = load_recipe(model.scope)
    made: EnsembleModel = recipe(
        network=network(
            kind=model.kind,
            features=len(features.columns),
            lookback=model.lookback,
            units=model.units,
            layers=model.layers,
            horizons=len(run.config.labels.horizons),
            convolution=model.convolution,
            attention=model.attention,
            mode=training.mode,
        ),
        training=settings(
            epochs=training.epochs,
            batch_size=training.batch_size,
            chunk=training.chunk,
            learning_rate=training.learning_rate,
            schedule=training.schedule,
            clip_norm=training.clip_norm,
            patience=training.patience,
        ),
        members=model.members,
        progress=progress,
        executor=workshop.executor,
        folder=workshop.folder,
        rescue=workshop.rescue,
        checkpoints=workshop.checkpoints,
        start=start,
        calibration=calibration,
    )
    return made


def _calibration(run: Run) -> Calibration:
    chosen = run.config.calibration
    return Calibration(chosen.method, chosen.coverage, max(run.config.labels.horizons))


def make_baselines(run: Run, features: FeatureSet) -> dict[str, Model]:
    """Return what the network is held against, unasked: rules and small models that see the same features."""
    return {
        **baselines(
            features.columns.index(features.last_return),
            run.config.model.lookback,
            run.config.training.mode,
            [place for place, name in enumerate(features.columns) if name.startswith(UNIVERSE)],
        )
    }


def choose_start(run: Run, scored: FittedEnsemble, fold: Fold) -> FittedEnsemble | None:
    """Return the fit to go on from: one of this very training, and only if it knows no later label.

    It never comes from the workspace: last week's champion has seen the sessions that a score is measured on.
    """
    if not run.config.training.warm_start:
        return None
    if not scored.may_start(fold.train):
        log_line(
            "this fit starts from random initialization: the one before it stopped early on sessions that this one "
            "must not learn from; a test longer than [training] stop_sessions leaves room"
        )
        return None
    return scored
