"""How history is cut: train | stop | calibrate | test, with a gap between neighbours that nobody can forget.

The ranges count sessions (rows t of Sequences). A row's label belongs to the session `horizon` later, so the last
`horizon` rows before a border are left out: every label of one range is known before the next range begins. With
several horizons the farthest one decides, and all of them stand on the same rows.
"""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import BacktestConfig, EvaluationConfig, TrainingConfig
from pipeline.errors import InputError
from pipeline.features.sequences import Sequences

__all__ = ["Fold", "final_fold", "scoring_fold", "walk_folds"]

_MIN_TRAIN = 100  # with fewer sessions to learn from, a network of any size only learns the noise by heart


@dataclass(frozen=True)
class Fold:
    """Consecutive ranges of session numbers; `test` is empty for the fit that forecasts tonight."""

    train: range
    stop: range
    calibrate: range
    test: range

    def inputs(self, sequences: Sequences) -> Sequences:
        """Return what a fit may see: every label from the test range on is unknown."""
        y = sequences.y.copy()
        y[:, self.calibrate.stop :] = np.nan
        return replace(sequences, y=y)

    def outcomes(self, sequences: Sequences) -> NDArray[np.float32]:
        """Return what is scored, [symbol, session, horizon]: the labels from stop on; only the scorer asks."""
        y = np.full_like(sequences.y, np.nan)
        for part in (range(self.stop.start, self.calibrate.stop), self.test):
            y[:, part.start : part.stop] = sequences.y[:, part.start : part.stop]
        return y

    @property
    def parts(self) -> dict[str, range]:
        """The ranges by name, in order of time."""
        return {"train": self.train, "stop": self.stop, "calibrate": self.calibrate, "test": self.test}


def scoring_fold(sequences: Sequences, evaluation: EvaluationConfig, training: TrainingConfig) -> Fold:
    """Return the fold that scores the procedure: the test rows are at the end, and no fit sees them.

    Raises:
        InputError: there is too little history, or a date of `[evaluation]` lies outside it.
    """
    if evaluation.test_end is None:
        return _cut(sequences, training, evaluation.test_sessions)
    return _cut_by_dates(sequences, evaluation)


def final_fold(sequences: Sequences, training: TrainingConfig) -> Fold:
    """Return the fold of the champion: the same cut with nothing held back, through the last session.

    Raises:
        InputError: there is too little history.
    """
    return _cut(sequences, training, 0)


def walk_folds(
    sequences: Sequences, evaluation: EvaluationConfig, training: TrainingConfig, backtest: BacktestConfig
) -> list[Fold]:
    """Return the folds of a walk through history, in order of time; each tests the sessions up to the next one's.

    Expanding, every fold learns from the first session on; rolling, from as many sessions as the first. Cut by dates
    there is a single fold.

    Raises:
        InputError: there is too little history, or a date of `[evaluation]` lies outside it.
    """
    if evaluation.test_end is not None:
        return [_cut_by_dates(sequences, evaluation)]
    first, gap = _first_row(sequences), max(sequences.horizons)
    end = len(sequences.sessions) - gap
    before = backtest.train_sessions + training.stop_sessions + training.calibrate_sessions + 3 * gap
    starts = range(first + before, end, backtest.refit_sessions)
    if not starts:
        raise InputError(
            f"There is too little history for a walk: {max(end - first, 0)} sessions with features and an outcome, of "
            f"which the first fit takes {before} before its test begins",
            where="[backtest] train_sessions, [training] stop_sessions, calibrate_sessions",
            fix="fetch a longer history ([prices] start) or lower those numbers",
        )
    return [_walk_to(start, first, end, gap, training, backtest) for start in starts]


def _walk_to(
    start: int, first: int, end: int, gap: int, training: TrainingConfig, backtest: BacktestConfig
) -> Fold:
    """Return the fold whose test begins with row `start`."""
    calibrate = range(start - gap - training.calibrate_sessions, start - gap)
    stop = range(calibrate.start - gap - training.stop_sessions, calibrate.start - gap)
    last = stop.start - gap
    return Fold(
        train=range(first if backtest.window == "expanding" else last - backtest.train_sessions, last),
        stop=stop,
        calibrate=calibrate,
        test=range(start, min(start + backtest.refit_sessions, end)),
    )


def _cut(sequences: Sequences, training: TrainingConfig, test_sessions: int) -> Fold:
    first, end, gap = _first_row(sequences), len(sequences.sessions), max(sequences.horizons)
    # The last `gap` rows have no outcome yet: they belong to no range, except that test ends with them.
    test = range(end - gap - test_sessions, end - gap) if test_sessions else range(end, end)
    calibrate = range(test.start - gap - training.calibrate_sessions, test.start - gap)
    stop = range(calibrate.start - gap - training.stop_sessions, calibrate.start - gap)
    train = range(first, stop.start - gap)
    if len(train) < _MIN_TRAIN:
        raise InputError(
            f"There is too little history: {end - first} sessions with features, of which {test_sessions} go to "
            f"the test, {training.stop_sessions} to early stopping and {training.calibrate_sessions} to "
            f"calibration{_describe_gaps(gap, bool(test_sessions))}; {max(len(train), 0)} would be left to train on, "
            f"and {_MIN_TRAIN} are the least",
            where="[evaluation] test_sessions, [training] stop_sessions, calibrate_sessions",
            fix="fetch a longer history ([prices] start) or lower those numbers",
        )
    return Fold(train, stop, calibrate, test)


def _describe_gaps(gap: int, has_test: bool) -> str:
    """Say what the gaps take where that is more than a session each."""
    return (
        ""
        if gap == 1
        else f" and {gap * (4 if has_test else 3)} are left out for labels {gap} sessions ahead"
    )


def _cut_by_dates(sequences: Sequences, evaluation: EvaluationConfig) -> Fold:
    """Cut by the target session: a row belongs to the part in which all that it forecasts happens."""
    ends = (evaluation.train_end, evaluation.validation_end, evaluation.test_end)
    train_end, validation_end, test_end = (_last_row(sequences, end) for end in ends if end is not None)
    first, gap = _first_row(sequences), max(sequences.horizons)
    half = (train_end + validation_end) // 2
    fold = Fold(
        train=range(first, train_end - gap + 1),
        stop=range(train_end + 1, half - gap + 1),
        calibrate=range(half + 1, validation_end - gap + 1),
        test=range(validation_end + 1, test_end - gap + 2),
    )
    short = [name for name, part in fold.parts.items() if len(part) < (_MIN_TRAIN if name == "train" else 1)]
    if short:
        raise InputError(
            f"The dates leave too few sessions for {' and '.join(short)}; the sessions with features run from "
            f"{sequences.sessions[first]:%Y-%m-%d} to {sequences.sessions[-1]:%Y-%m-%d}",
            where="[evaluation] train_end, validation_end, test_end",
            fix="give dates inside those sessions, or none: then [evaluation] test_sessions cuts",
        )
    return fold


def _last_row(sequences: Sequences, end: date) -> int:
    """Return the last row whose next session is not after `end`."""
    return int((sequences.sessions <= pd.Timestamp(end)).sum()) - 2


def _first_row(sequences: Sequences) -> int:
    valid = sequences.mask.any(axis=0)
    if not valid.any():
        raise InputError(
            "No session has a valid row: every symbol has too little history, or prices that never change",
            where=f"{len(sequences.symbols)} symbols, {sequences.symbols[0]} for one, in {len(sequences.sessions)} "
            f"sessions from {sequences.sessions[0]:%Y-%m-%d} to {sequences.sessions[-1]:%Y-%m-%d}",
            fix="fetch a longer history ([prices] start), or look at `nextday update` for what was found",
        )
    return int(valid.argmax())
