"""The protocols Model and Fitted, and how one is fitted."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold

__all__ = ["Begun", "EarlyModel", "Fitted", "Model", "Prediction", "begin", "fit"]


class Prediction(Protocol):
    """Probabilities of up, each [symbol, session, horizon], NaN where a window is not whole."""

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
    """A fitted model; row t of a prediction depends on sessions up to t alone."""

    def first_session(self, row: int) -> int:
        """Return the first session that the forecasts from session `row` on read, in the block of the fit."""
        ...

    @property
    def base_rate(self) -> NDArray[np.floating]:
        """The share of ups among the training rows, [horizon]."""
        ...

    @property
    def threshold(self) -> NDArray[np.floating]:
        """The least |p_up - 0.5| that takes a side, [horizon], or of each symbol's own, [symbol, horizon]."""
        ...

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every row of x [symbol, session, feature]."""
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
    ) -> Fitted:
        """Fit on three consecutive ranges of sessions; equal seeds give equal fits."""
        ...


class Begun(Protocol):
    """A fit that may be on its way already."""

    def finish(self) -> Fitted:
        """Wait for the fit, and return it."""
        ...

    def close(self) -> None:
        """Let go of a fit that is not asked for any more."""
        ...


class EarlyModel(Model, Protocol):
    """A procedure whose fit can begin before its turn, while something else is worked on."""

    def begin(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
    ) -> Begun:
        """Begin what `fit` does; it comes to the same."""
        ...


def fit(model: Model, taught: Sequences, fold: Fold, seed: int) -> Fitted:
    """Fit one model on one fold."""
    return model.fit(
        taught.x, taught.mask, taught.y, train=fold.train, stop=fold.stop, calibrate=fold.calibrate, seed=seed
    )


def begin(model: EarlyModel, taught: Sequences, fold: Fold, seed: int) -> Begun:
    """Begin to fit one model on one fold, see `fit`."""
    return model.begin(
        taught.x, taught.mask, taught.y, train=fold.train, stop=fold.stop, calibrate=fold.calibrate, seed=seed
    )
