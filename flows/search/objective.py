"""The objective of a search: cross-validation inside the training data; the test range is cut off."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.runtime.context import Run
from flows.training.compute import Compute
from flows.training.history import History
from flows.training.model_factory import make_recipe
from models.errors import ModelError
from models.windows import usable_rows
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold, scoring_fold
from pipeline.forecasting.forecast import forecast
from pipeline.forecasting.inner_folds import cut_inside, last_inside
from pipeline.forecasting.model import EnsembleModel, fit
from pipeline.forecasting.walk_forward import mask_labels
from pipeline.market.calendar import Calendar
from pipeline.outputs import Output
from pipeline.statistics.metrics import log_losses

__all__ = [
    "MEMBERS",
    "Inside",
    "Losses",
    "base_rate_losses",
    "cut_history",
    "trial_network",
    "validate_slice",
]

MEMBERS: Final = 2
"""Networks that a trial trains at most: two rank settings nearly as five do, in less than half the time."""

Losses = NDArray[np.float64]
"""The mean log loss of each session [session], in time order."""


@dataclass(frozen=True, eq=False)
class Inside:
    """History through the last training label of the scoring fold, split into inner folds.

    Attributes:
        sequences: Features and labels, nothing later than that.
        folds: In time order; `test` is the validation slice.
        comparable: [symbol, session], the rows that every network of the space can forecast.
        as_of: The last session of the prices that this was made from.
        seq: Their version.
    """

    sequences: Sequences
    folds: list[Fold]
    comparable: NDArray[np.bool_]
    as_of: pd.Timestamp
    seq: int


def cut_history(run: Run, known: History, lookback: int) -> Inside:
    """Cut off everything after the last training label of the scoring fold, and split the rest into inner folds.

    Args:
        run: The configured settings.
        known: All of history.
        lookback: The longest lookback of the space: trials are compared on rows that all of them forecast.

    Raises:
        InputError: there is too little history.
    """
    training, evaluation = run.config.training, run.config.evaluation
    scored, horizons = scoring_fold(known.sequences, evaluation, training), known.sequences.horizons
    stop = last_inside(scored, horizons) + 1
    sequences = known.sequences.through(known.sequences.sessions[stop - 1])
    folds = cut_inside(
        sequences,
        scored,
        stop_sessions=training.stop_sessions,
        calibrate_sessions=training.calibrate_sessions,
        test_sessions=evaluation.test_sessions,
    )
    comparable = usable_rows(sequences.mask, lookback, "windowed")
    inside = Inside(sequences, folds, comparable, known.as_of, known.seq)
    for fold in folds:
        if not np.isfinite(_labels(inside, fold)).any():
            raise InputError(
                f"No symbol has {lookback} sessions in a row in a validation slice of the search",
                where=f"sessions from {sequences.sessions[fold.test.start]:%Y-%m-%d}",
                fix="fetch a longer history ([prices] start), or symbols with fewer gaps",
            )
    return inside


def trial_network(run: Run, config: Config, outputs: Sequence[Output]) -> EnsembleModel:
    """Return the network that a trial fits.

    Args:
        run: The run of the search; its settings are replaced by `config`.
        config: The settings of the trial.
        outputs: What it forecasts.
    """
    few = config.model.model_copy(update={"members": min(config.model.members, MEMBERS)})
    settings = replace(run, config=config.model_copy(update={"model": few}))
    features = settings.feature_set(outputs=outputs)
    return make_recipe(settings, features, len(outputs), _ignore_epoch, Compute())


def validate_slice(
    inside: Inside, calendar: Calendar, network: EnsembleModel, config: Config, number: int
) -> Losses:
    """Return the losses of a validation slice, from a network fitted on the sessions before it.

    Args:
        inside: The data of the search.
        calendar: The sessions of the exchange.
        network: The network to fit.
        config: The settings to validate.
        number: The number of the slice, from 0.

    Raises:
        ModelError: the network cannot be fitted with these settings.
    """
    fold = inside.folds[number]
    labelled = mask_labels(inside.sequences, fold, config.labels.dead_zone, refit=config.training.refit)
    fitted = fit(network, labelled, fold, config.training.seed)
    rows = forecast(fitted, inside.sequences, fold.test, calendar)
    p_up = np.full(inside.sequences.y.shape, np.nan)
    p_up[_indices(rows, inside.sequences)] = rows["p_up"]
    losses = _session_losses(p_up, inside, fold)
    if np.isnan(losses).any():
        raise ModelError("a row that every network of the search can forecast has no forecast")
    return losses


def _ignore_epoch(epoch: object) -> None:
    """Tell nobody: a search shows its trials."""


def base_rate_losses(inside: Inside, *, refit: bool) -> Losses:
    """Return the losses of the base rate on all slices: the share of ups among the labels that a network learns.

    Args:
        inside: The data of the search.
        refit: Whether networks are fitted a second time, on all three ranges.
    """
    return np.concatenate([_base_rate_losses_of_fold(inside, fold, refit=refit) for fold in inside.folds])


def _base_rate_losses_of_fold(inside: Inside, fold: Fold, *, refit: bool) -> Losses:
    last = fold.calibrate if refit else fold.train
    train, y = slice(fold.train.start, last.stop), inside.sequences.y
    labels = np.where(inside.sequences.mask[:, train, None], y[:, train], np.nan)
    rate = np.nanmean(labels, axis=(0, 1), dtype=np.float64)
    return _session_losses(np.broadcast_to(rate, y.shape), inside, fold)


def _labels(inside: Inside, fold: Fold) -> NDArray[np.float64]:
    """Return the labels of a slice [symbol, session, output], NaN where not every network forecasts."""
    part = slice(fold.test.start, fold.test.stop)
    return np.where(inside.comparable[:, part, None], inside.sequences.y[:, part].astype(float), np.nan)


def _session_losses(p_up: NDArray[np.float64], inside: Inside, fold: Fold) -> Losses:
    y = _labels(inside, fold)
    is_known = np.isfinite(y)
    rows = is_known.sum(axis=(0, 2))
    losses = np.where(is_known, log_losses(p_up[:, fold.test.start : fold.test.stop], y), 0.0)
    return np.asarray(losses.sum(axis=(0, 2))[rows > 0] / rows[rows > 0])


def _indices(rows: pd.DataFrame, sequences: Sequences) -> tuple[NDArray[np.intp], ...]:
    return (
        pd.Index(sequences.symbols).get_indexer(pd.Index(rows["symbol"])),
        sequences.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"])),
        sequences.outputs_of(rows),
    )
