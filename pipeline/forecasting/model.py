"""The protocols that a model implements, and how one is fitted on a fold.

Anything that implements them can be forecast with; the implementations live in `models`.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold

__all__ = [
    "EnsembleModel",
    "Fitted",
    "FittedEnsemble",
    "Labelled",
    "Model",
    "Prediction",
    "SavedEnsemble",
    "Trained",
    "fit",
    "submit",
]


class Prediction(Protocol):
    """Probabilities of up, each [symbol, session, output], NaN where a window is incomplete."""

    @property
    def p_up(self) -> NDArray[np.floating]:
        """The calibrated probability."""
        ...

    @property
    def low(self) -> NDArray[np.floating]:
        """The lower end of the members' band."""
        ...

    @property
    def high(self) -> NDArray[np.floating]:
        """The upper end of the members' band."""
        ...


class Fitted(Protocol):
    """A fitted model; row t of a prediction depends only on sessions up to t."""

    def first_session(self, row: int) -> int:
        """Return the first session that forecasts from session `row` on read, in the block of the fit."""
        ...

    @property
    def base_rate(self) -> NDArray[np.floating]:
        """The share of ups among the training rows, [output], or per symbol, [symbol, output]."""
        ...

    @property
    def threshold(self) -> NDArray[np.floating]:
        """The least |p_up - 0.5| at which a direction is issued, [output], or per symbol, [symbol, output]."""
        ...

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every row of x [symbol, session, feature]."""
        ...


class Trained(Fitted, Protocol):
    """A fitted model as its fit returns it."""

    @property
    def held_out(self) -> Fitted:
        """The model of the first fit, which has not learned from the calibrate range; it may be the same."""
        ...


class FittedEnsemble(Trained, Protocol):
    """A fitted model that can be saved and become champion: pooled, one per symbol, or the user's own."""

    @property
    def held_out(self) -> "FittedEnsemble":
        """The ensemble of the first fit, which has not learned from the calibrate range; it may be the same."""
        ...

    @property
    def history(self) -> Sequence[Any]:
        """The epochs of every member; empty for a user's own model."""
        ...

    @property
    def left_out(self) -> Mapping[int, str]:
        """Why a row of the fitted block has no model, by row number; empty for a pooled model."""
        ...

    @property
    def start(self) -> int | None:
        """The session of the block from which the network is run with a zero state; None: it reads windows."""
        ...

    @property
    def explainable(self) -> bool:
        """Whether `models.explain` can inspect it."""
        ...

    def may_start(self, train: range) -> bool:
        """Return whether a fit on the sessions `train` of the same block may start from this one's weights."""
        ...

    def arranged(self, rows: Sequence[int]) -> "FittedEnsemble":
        """Return the model for blocks whose symbols are the rows `rows` of the fitted block, -1 for others."""
        ...

    def save(self, directory: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write the model into a new folder, all or nothing."""
        ...


class SavedEnsemble(Fitted, Protocol):
    """A model read from its files: it forecasts, and nothing else."""

    @property
    def left_out(self) -> Mapping[int, str]:
        """Why a row of the fitted block has no model, by row number; empty for a pooled model."""
        ...

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the caller saved with the model."""
        ...

    @property
    def per_symbol(self) -> bool:
        """Whether each symbol has a model of its own."""
        ...

    @property
    def explainable(self) -> bool:
        """Whether `models.explain` can attribute its forecasts."""
        ...

    def arranged(self, rows: Sequence[int]) -> "SavedEnsemble":
        """Return the model for blocks whose symbols are the rows `rows` of the fitted block, -1 for others."""
        ...


class Model(Protocol):
    """A procedure that can be fitted."""

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: NDArray[np.float32] | None = None,
    ) -> Trained:
        """Fit on three consecutive ranges of sessions; equal seeds give equal fits.

        With `refit`, labels as y, the model is then fitted again on all three ranges, for as long as the first fit
        found best.
        """
        ...


class EnsembleModel(Model, Protocol):
    """A procedure whose fit can be submitted, so that training goes on while this process does other work."""

    def submit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: NDArray[np.float32] | None = None,
    ) -> Future[Any]:
        """Return the future of what `fit` returns: the same FittedEnsemble, bit for bit."""
        ...


@dataclass(frozen=True, eq=False)
class Labelled:
    """What a fit may see.

    Attributes:
        sequences: Features of all sessions; y holds only labels known before the test, without those of train and stop
            that are not to be learned from.
        refit: The labels of a second fit on train, stop and calibrate: as y, also without those of calibrate that are
            not to be learned from. None: there is no second fit.
    """

    sequences: Sequences
    refit: NDArray[np.float32] | None = None


def fit(model: Model, known: Labelled, fold: Fold, seed: int) -> Trained:
    """Fit a model on a fold."""
    s = known.sequences
    return model.fit(s.x, s.mask, s.y, **_ranges(fold), seed=seed, refit=known.refit)


def submit(model: EnsembleModel, known: Labelled, fold: Fold, seed: int) -> Future[FittedEnsemble]:
    """Submit the fit of a model on a fold, see `fit`."""
    s = known.sequences
    return model.submit(s.x, s.mask, s.y, **_ranges(fold), seed=seed, refit=known.refit)


def _ranges(fold: Fold) -> dict[str, range]:
    return {"train": fold.train, "stop": fold.stop, "calibrate": fold.calibrate}
