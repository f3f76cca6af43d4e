"""Walk-forward evaluation: fit every model on each fold and forecast the sessions after it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.features.sequences import Sequences, blank_dead_zone
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.forecast import forecast_packed
from pipeline.forecasting.model import Labelled, Model, Trained, fit
from pipeline.forecasting.row_collector import RowCollector
from pipeline.market.calendar import Calendar
from pipeline.memory import return_freed_memory
from pipeline.schema import FORECAST_KEY

__all__ = ["Walk", "mask_labels", "walk_forward"]

_BEFORE: Final = [*FORECAST_KEY, "fold", "model", "p_up", "outcome"]
"""The columns of the rows before a test: enough to score them."""

_TEST: Final = [*_BEFORE, "direction", "realized_return"]
"""The columns of every model's test rows."""


@dataclass(frozen=True, eq=False)
class Walk:
    """The forecasts of a walk-forward evaluation.

    Attributes:
        before: Rows of the stop and calibrate ranges: what was known before the test began, forecast by the first fits.
            The columns are those of `test` without direction and realized_return; the sessions are ordered categories.
        test: Rows of the test ranges; columns fold, model, symbol, as_of, target_session, horizon, target, p_up,
            direction, outcome, realized_return (of a relative target less the members' median). Folds are counted from
            1; model, symbol, target and direction are categories.
        fitted: The last fold's fits, by name.
        own: The first model's rows of `test`, with low, high and baseline_p_up (the base rate of the training rows).
        best: The baselines that were best before each test: fold, horizon, target, skill, baseline.
    """

    before: pd.DataFrame
    test: pd.DataFrame
    fitted: Mapping[str, Trained]
    own: pd.DataFrame = field(default_factory=pd.DataFrame)
    best: pd.DataFrame = field(default_factory=pd.DataFrame)


def mask_labels(sequences: Sequences, fold: Fold, dead_zone: tuple[float, float], *, refit: bool) -> Labelled:
    """Return what a fit may see: labels before the test only, without small moves where they would be learned.

    The first fit learns from train and stop, the second also from calibrate, whose every label the calibration uses.
    The dead zone applies to the next session's moves; longer horizons keep every label.

    Args:
        sequences: The whole history.
        fold: Its ranges.
        dead_zone: Moves that are not learned from.
        refit: Whether there is a second fit.
    """
    inputs = fold.inputs(sequences)
    learned = replace(inputs, y=_without_small(inputs, dead_zone, range(fold.train.start, fold.stop.stop)))
    if not refit:
        return Labelled(learned)
    return Labelled(learned, _without_small(learned, dead_zone, range(fold.stop.stop, fold.calibrate.stop)))


def _without_small(inputs: Sequences, dead_zone: tuple[float, float], rows: range) -> NDArray[np.float32]:
    if not any(dead_zone):
        return inputs.y
    blanked = blank_dead_zone(inputs.y, inputs.returns, dead_zone, rows)
    return np.where(np.equal(inputs.horizons, 1), blanked, inputs.y)


def walk_forward(
    models: Mapping[str, Model],
    sequences: Sequences,
    folds: Iterable[Fold],
    calendar: Calendar,
    *,
    dead_zone: tuple[float, float],
    seed: int,
    refit: bool,
    progress: Callable[[str], None],
) -> Walk:
    """Fit every model on every fold and forecast the rows that the fit did not see.

    Args:
        models: By name, the one in question first; all forecast the same rows.
        sequences: The whole history.
        folds: In order of time.
        calendar: Gives the target sessions.
        dead_zone: Moves of the next session inside it are not learned from; they are scored nevertheless.
        seed: Of every fit.
        refit: Whether the models are fitted a second time, on all sessions before the test, before they forecast it.
        progress: Called with the name of each model before it is fitted.
    """
    before, test, own = RowCollector(_BEFORE), RowCollector(_TEST), RowCollector()
    fitted: dict[str, Trained] = {}
    for number, fold in enumerate(folds, start=1):
        known = mask_labels(sequences, fold, dead_zone, refit=refit)
        outcomes, earlier = fold.outcomes(sequences), range(fold.stop.start, fold.calibrate.stop)
        for place, (name, model) in enumerate(models.items()):
            progress(name)
            fitted[name] = fit(model, known, fold, seed)
            for each, rows, kept in (
                (fitted[name].held_out, earlier, [before]),
                (fitted[name], fold.test, [test] if place else [test, own]),
            ):
                made = forecast_packed(each, sequences, rows, calendar)
                rated = _with_outcomes(made, each.base_rate, sequences, outcomes)
                names = pd.Categorical.from_codes(np.full(len(rated), place), pd.Index(list(models)))
                rated = rated.assign(model=names, fold=np.int16(number))
                for collector in kept:
                    collector.add(
                        _with_packed_sessions(rated, sequences, calendar) if collector is before else rated
                    )
            del made, rated
            return_freed_memory()
    return Walk(before.join(), test.join(), fitted, own.join())


def _with_packed_sessions(rows: pd.DataFrame, sequences: Sequences, calendar: Calendar) -> pd.DataFrame:
    """Return the rows with their sessions as categories: a quarter of the memory."""
    days = {"as_of": sequences.sessions, "target_session": calendar.sessions}
    codes = {name: each.get_indexer(pd.DatetimeIndex(rows[name])) for name, each in days.items()}
    types = {name: pd.CategoricalDtype(each, ordered=True) for name, each in days.items()}
    return rows.assign(**{name: pd.Categorical.from_codes(codes[name], dtype=types[name]) for name in days})


def _with_outcomes(
    rows: pd.DataFrame,
    base_rates: NDArray[np.floating],
    sequences: Sequences,
    outcomes: NDArray[np.float32],
) -> pd.DataFrame:
    symbol, session, output = (
        rows["symbol"].cat.codes.to_numpy(),
        sequences.sessions.get_indexer(pd.DatetimeIndex(rows["as_of"])),
        sequences.outputs_of(rows),
    )
    base_rate = np.broadcast_to(
        np.asarray(base_rates, np.float64), (len(sequences.symbols), len(sequences.outputs))
    )
    return rows.assign(
        baseline_p_up=base_rate[symbol, output],
        outcome=outcomes[symbol, session, output].astype(float),
        realized_return=sequences.returns[symbol, session, output],
    )
