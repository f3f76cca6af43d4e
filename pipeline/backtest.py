"""One forecast function for score, evening, catch-up and replay; and the walk that scores a procedure.

This module owns the interface to the models: anything that fits these protocols can be forecast with.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.selective import take_sides
from pipeline.market.calendar import Calendar
from pipeline.sequences import Sequences, blank_dead_zone
from pipeline.walkforward import Fold

__all__ = [
    "Begun",
    "EarlyModel",
    "Fitted",
    "Model",
    "Prediction",
    "Walk",
    "begin",
    "fit",
    "forecast",
    "teach",
    "walk_forward",
]


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


@dataclass(frozen=True, eq=False)
class Walk:
    """What a walk found.

    Attributes:
        before: Rows of the stop and calibrate ranges: what could be compared before the test began.
        test: Rows of the test ranges; columns fold, model, symbol, as_of, target_session, horizon, p_up, low, high,
            direction, baseline_p_up (the base rate of the training rows), outcome, realized_return, alike in `before`.
            Folds are counted from 1; model, symbol and direction are categories.
        fitted: The last fold's fits, by name.
    """

    before: pd.DataFrame
    test: pd.DataFrame
    fitted: Mapping[str, Fitted]


def forecast(fitted: Fitted, sequences: Sequences, rows: range, calendar: Calendar) -> pd.DataFrame:
    """Forecast the sessions of `rows`, for every symbol that has history enough there.

    A forecast whose target session lies beyond what the calendar knows is left out: it could not name its session.

    Args:
        fitted: The model.
        sequences: The block that it was fitted with; for a loaded model one that begins where its run starts.
        rows: Session numbers.
        calendar: Gives the target sessions.

    Returns:
        symbol, as_of, target_session, horizon, p_up, low, high, direction; one row a forecast, by as_of, symbol and
        horizon.
    """
    made = _forecast_packed(fitted, sequences, rows, calendar)
    return made.astype({"symbol": "str", "direction": "str", "horizon": "int64"})


def _forecast_packed(fitted: Fitted, sequences: Sequences, rows: range, calendar: Calendar) -> pd.DataFrame:
    """Return what `forecast` does in less than half of the memory: a walk makes tens of millions of rows."""
    first = fitted.first_session(rows.start)
    made = fitted.predict(sequences.x[:, first : rows.stop], sequences.mask[:, first : rows.stop])
    low, p_up, high = (
        np.asarray(a, float)[:, rows.start - first :] for a in (made.low, made.p_up, made.high)
    )
    last_known = len(calendar.sessions) - 1
    number = calendar.sessions.get_indexer(sequences.sessions[rows.start : rows.stop])
    target = number[:, None] + np.array(sequences.horizons)
    is_known = np.isfinite(p_up) & (target <= last_known)
    session, symbol, horizon = np.nonzero(is_known.transpose(1, 0, 2))
    place = (symbol, session, horizon)
    threshold = np.broadcast_to(fitted.threshold, (len(sequences.symbols), len(sequences.horizons)))
    return pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(symbol, pd.Index(sequences.symbols)),
            "as_of": sequences.sessions[rows.start : rows.stop][session],
            "target_session": calendar.sessions[target[session, horizon]],
            "horizon": np.array(sequences.horizons, np.int16)[horizon],
            "p_up": p_up[place],
            "low": low[place],
            "high": high[place],
            "direction": take_sides(p_up[place], threshold[symbol, horizon]),
        }
    )


def teach(
    sequences: Sequences, fold: Fold, returns: NDArray[np.float64], dead_zone: tuple[float, float]
) -> Sequences:
    """Return what a fit learns from: no label from the test on, none of a small move in train and stop.

    A dead zone is one of the next session's moves: what is farther ahead keeps every label.
    """
    inputs = fold.inputs(sequences)
    if not any(dead_zone):
        return inputs
    learning = range(fold.train.start, fold.stop.stop)
    blanked = blank_dead_zone(inputs.y, returns, dead_zone, learning)
    return replace(inputs, y=np.where(np.equal(sequences.horizons, 1), blanked, inputs.y))


def walk_forward(
    models: Mapping[str, Model],
    sequences: Sequences,
    folds: Iterable[Fold],
    calendar: Calendar,
    *,
    returns: NDArray[np.float64],
    dead_zone: tuple[float, float],
    seed: int,
    tell: Callable[[str], None],
) -> Walk:
    """Fit every model on every fold and forecast the rows that the fit did not see.

    Args:
        models: By name; all stand on the same rows.
        sequences: The whole history.
        folds: In order of time.
        calendar: Gives the target sessions.
        returns: Simple total returns [symbol, session, horizon].
        dead_zone: Moves of the next session in it teach nothing; they are scored all the same.
        seed: Of every fit.
        tell: Called with the name of each model before it is fitted.
    """
    before: list[pd.DataFrame] = []
    test: list[pd.DataFrame] = []
    fitted: dict[str, Fitted] = {}
    for number, fold in enumerate(folds, start=1):
        taught, outcomes = teach(sequences, fold, returns, dead_zone), fold.outcomes(sequences)
        for place, (name, model) in enumerate(models.items()):
            tell(name)
            fitted[name] = fit(model, taught, fold, seed)
            for rows, kept in ((range(fold.stop.start, fold.calibrate.stop), before), (fold.test, test)):
                made = _forecast_packed(fitted[name], sequences, rows, calendar)
                told = _with_outcomes(made, fitted[name], sequences, outcomes, returns)
                names = pd.Categorical.from_codes(np.full(len(told), place), pd.Index(list(models)))
                kept.append(told.assign(model=names, fold=np.int16(number)))
    return Walk(pd.concat(before, ignore_index=True), pd.concat(test, ignore_index=True), fitted)


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


def _with_outcomes(
    rows: pd.DataFrame,
    fitted: Fitted,
    sequences: Sequences,
    outcomes: NDArray[np.float32],
    returns: NDArray[np.float64],
) -> pd.DataFrame:
    symbol, session, horizon = (
        rows["symbol"].cat.codes.to_numpy(),
        sequences.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"])),
        pd.Index(sequences.horizons).get_indexer(pd.Index(rows["horizon"])),
    )
    base_rate = np.broadcast_to(fitted.base_rate, (len(sequences.symbols), len(sequences.horizons)))
    return rows.assign(
        baseline_p_up=base_rate[symbol, horizon],
        outcome=outcomes[symbol, session, horizon].astype(float),
        realized_return=returns[symbol, session, horizon],
    )
