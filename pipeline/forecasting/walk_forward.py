"""Walk-forward evaluation: fit every model on each fold and forecast the sessions after it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.sequences import Sequences, blank_dead_zone
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.forecast import forecast_packed
from pipeline.forecasting.model import Fitted, Model, fit
from pipeline.market.calendar import Calendar

__all__ = ["Walk", "mask_labels", "walk_forward"]


@dataclass(frozen=True, eq=False)
class Walk:
    """The forecasts of a walk-forward evaluation.

    Attributes:
        before: Rows of the stop and calibrate ranges: what was known before the test began.
        test: Rows of the test ranges; columns fold, model, symbol, as_of, target_session, horizon, target, p_up, low,
            high, direction, baseline_p_up (the base rate of the training rows), outcome, realized_return (of a relative
            target less the members' median), alike in `before`. Folds are counted from 1; model, symbol, target and
            direction are categories.
        fitted: The last fold's fits, by name.
        best: The baselines that were best before each test: fold, horizon, target, skill, baseline.
    """

    before: pd.DataFrame
    test: pd.DataFrame
    fitted: Mapping[str, Fitted]
    best: pd.DataFrame = field(default_factory=pd.DataFrame)


def mask_labels(sequences: Sequences, fold: Fold, dead_zone: tuple[float, float]) -> Sequences:
    """Return the inputs of a fit: labels before the test only, without small moves in train and stop.

    The dead zone applies to the next session's moves; longer horizons keep every label.
    """
    inputs = fold.inputs(sequences)
    if not any(dead_zone):
        return inputs
    learning = range(fold.train.start, fold.stop.stop)
    blanked = blank_dead_zone(inputs.y, sequences.returns, dead_zone, learning)
    return replace(inputs, y=np.where(np.equal(sequences.horizons, 1), blanked, inputs.y))


def walk_forward(
    models: Mapping[str, Model],
    sequences: Sequences,
    folds: Iterable[Fold],
    calendar: Calendar,
    *,
    dead_zone: tuple[float, float],
    seed: int,
    progress: Callable[[str], None],
) -> Walk:
    """Fit every model on every fold and forecast the rows that the fit did not see.

    Args:
        models: By name; all forecast the same rows.
        sequences: The whole history.
        folds: In order of time.
        calendar: Gives the target sessions.
        dead_zone: Moves of the next session inside it are not learned from; they are scored nevertheless.
        seed: Of every fit.
        progress: Called with the name of each model before it is fitted.
    """
    before: list[pd.DataFrame] = []
    test: list[pd.DataFrame] = []
    fitted: dict[str, Fitted] = {}
    for number, fold in enumerate(folds, start=1):
        inputs, outcomes = mask_labels(sequences, fold, dead_zone), fold.outcomes(sequences)
        for place, (name, model) in enumerate(models.items()):
            progress(name)
            fitted[name] = fit(model, inputs, fold, seed)
            for rows, kept in ((range(fold.stop.start, fold.calibrate.stop), before), (fold.test, test)):
                made = forecast_packed(fitted[name], sequences, rows, calendar)
                rated = _with_outcomes(made, fitted[name], sequences, outcomes)
                names = pd.Categorical.from_codes(np.full(len(rated), place), pd.Index(list(models)))
                kept.append(rated.assign(model=names, fold=np.int16(number)))
    return Walk(pd.concat(before, ignore_index=True), pd.concat(test, ignore_index=True), fitted)


def _with_outcomes(
    rows: pd.DataFrame,
    fitted: Fitted,
    sequences: Sequences,
    outcomes: NDArray[np.float32],
) -> pd.DataFrame:
    symbol, session, output = (
        rows["symbol"].cat.codes.to_numpy(),
        sequences.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"])),
        sequences.outputs_of(rows),
    )
    base_rate = np.broadcast_to(fitted.base_rate, (len(sequences.symbols), len(sequences.outputs)))
    return rows.assign(
        baseline_p_up=base_rate[symbol, output],
        outcome=outcomes[symbol, session, output].astype(float),
        realized_return=sequences.returns[symbol, session, output],
    )
