"""Build models from the settings: network, classifier or custom model, the baselines, the start of a warm start."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from flows.runtime.context import Run
from flows.runtime.custom_code import digest_code_of
from flows.runtime.progress import log_line
from flows.training.compute import Compute
from flows.training.load_models import load_recipe
from models.baselines import baselines
from models.calibration.calibrator import Calibration
from models.classifiers.classifier import ClassifierKind, ClassifierModel
from models.ensembles.custom_ensemble import CustomModel
from models.ensembles.kept_fits import KeptFits
from models.sample_weights import Weigh, weigh_by_volatility, weigh_recent
from pipeline.config import Config
from pipeline.features.columns import RANGE, UNIVERSE, FeatureSet
from pipeline.features.overnight import OVERNIGHT_COLUMNS
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.model import EnsembleModel, FittedEnsemble, Model
from pipeline.outputs import Output

__all__ = ["choose_start", "make_baselines", "make_recipe"]


_SAME_METHOD: Final = {"boosting": "gradient_boosting", "logistic": "logistic_regression"}
"""The baseline that learns what a kind of classifier learns."""


def make_recipe(
    run: Run,
    features: FeatureSet,
    outputs: int,
    progress: Callable[[Any], None],
    compute: Compute,
    start: FittedEnsemble | None = None,
) -> EnsembleModel:
    """Return the configured network, classifier or custom model, ready to be fitted.

    Args:
        run: The run.
        features: Its inputs.
        outputs: How many it has.
        progress: Called after every epoch.
        compute: Where it is trained.
        start: An earlier fit whose weights are the start; None: random initialization.
    """
    model, training = run.config.model, run.config.training
    calibration = _calibration(run)
    if model.is_custom:
        kept = _keep_fits(run, compute)
        return CustomModel(run.custom_model(), model.lookback, model.members, progress, calibration, kept)
    if model.is_classifier:
        kind, last_return = cast(ClassifierKind, model.kind), features.columns.index(features.last_return)
        return ClassifierModel(kind, last_return, model.lookback, training.mode, progress, calibration)
    recipe, network, settings = load_recipe(model.scope)
    model_to_fit: EnsembleModel = recipe(
        network=network(**_describe_network(run.config, len(features.columns), outputs)),
        training=settings(
            **{name: getattr(training, name) for name in _TRAINING}, device=training.used_device
        ),
        members=model.members,
        progress=progress,
        executor=compute.executor,
        folder=compute.folder,
        rescue=compute.rescue,
        checkpoints=compute.checkpoints,
        start=start,
        calibration=calibration,
        weigh=_weigh(training.sample_weight, features),
    )
    return model_to_fit


def _keep_fits(run: Run, compute: Compute) -> KeptFits | None:
    """Return where the fits of a custom model are kept, with what they are made with; None where they are not."""
    if compute.checkpoints is None:
        return None
    model = run.config.model
    made_with = {"model": model.kind, "options": model.options, **digest_code_of(run)}
    return KeptFits(compute.checkpoints, json.dumps(made_with, sort_keys=True))


_TRAINING: Final = (
    *("epochs", "batch_size", "chunk", "learning_rate", "schedule", "clip_norm", "patience", "smooth_epochs"),
    *("dropout", "weight_decay", "adversarial"),
)
"""The keys of [training] that a network is trained by."""


def _describe_network(config: Config, features: int, outputs: int) -> dict[str, Any]:
    """Return what describes a network, see models.networks.network.Network."""
    parts = ("kind", "lookback", "units", "layers", "convolution", "attention", "linear_skip")
    shape = {name: getattr(config.model, name) for name in parts}
    return {**shape, "features": features, "horizons": outputs, "mode": config.training.mode}


def _weigh(name: str, features: FeatureSet) -> Weigh | None:
    """Return what [training] sample_weight names."""
    if name == "volatility":
        return partial(weigh_by_volatility, features.columns.index(features.last_return))
    return weigh_recent if name == "recent" else None


def _calibration(run: Run) -> Calibration:
    chosen = run.config.calibration
    return Calibration(chosen.method, chosen.coverage, max(run.config.labels.horizons), chosen.slope_prior)


def make_baselines(run: Run, features: FeatureSet, outputs: Sequence[Output]) -> dict[str, Model]:
    """Return the baselines that the model is always compared with: rules and small models on the same features.

    A classifier is not compared with itself: the baseline that learns the same is left out.
    """
    named = {rule: column for rule, column in OVERNIGHT_COLUMNS.items() if column in features.columns}
    made: dict[str, Model] = {
        **baselines(
            features.columns.index(features.last_return),
            run.config.model.lookback,
            run.config.training.mode,
            [place for place, name in enumerate(features.columns) if name.startswith(UNIVERSE)],
            features.columns.index(RANGE) if RANGE in features.columns else None,
            [place for place, output in enumerate(outputs) if output.is_relative],
            [place for place, output in enumerate(outputs) if output.part == "overnight"],
            {rule: features.columns.index(column) for rule, column in named.items()},
        )
    }
    made.pop(_SAME_METHOD.get(run.config.model.kind, ""), None)
    return made


def choose_start(run: Run, scored: FittedEnsemble, fold: Fold) -> FittedEnsemble | None:
    """Return the fit whose weights are the start: one of the same training, and only if it has seen no later label.

    It is never loaded from the workspace: last week's champion has seen sessions of the test range.
    """
    if not run.config.training.warm_start:
        return None
    first = scored.held_out
    if not first.may_start(fold.train):
        log_line(
            "this fit starts from random initialization: the fit before it used sessions for early stopping that are "
            "not in this fit's training range; a test range longer than [training] stop_sessions avoids that"
        )
        return None
    return first
