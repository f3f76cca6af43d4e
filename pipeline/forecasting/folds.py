"""The split of history: train | stop | calibrate | test, with an embargo between consecutive ranges.

The ranges are session numbers (rows t of Sequences). A row's label belongs to the session `horizon` later, so the
last `horizon` rows before a border are left out: every label of one range is known before the next range begins.
With several horizons the longest one sets the gap, and all of them use the same rows.
"""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import BacktestConfig, EvaluationConfig, TrainingConfig
from pipeline.errors import InputError
from pipeline.features.sequences import Sequences
from pipeline.forecasting.ranges import MIN_TRAIN, fit_ranges, least_sessions
from pipeline.outputs import describe_output

__all__ = ["Fold", "final_fold", "require_labels", "scoring_fold", "walk_folds"]


@dataclass(frozen=True)
class Fold:
    """Consecutive ranges of session numbers; `test` is empty for the final fit."""

    train: range
    stop: range
    calibrate: range
    test: range

    def inputs(self, sequences: Sequences) -> Sequences:
        """Return the sequences that a fit may see: labels after the calibrate range are NaN."""
        y = sequences.y.copy()
        y[:, self.calibrate.stop :] = np.nan
        return replace(sequences, y=y)

    def outcomes(self, sequences: Sequences) -> NDArray[np.float32]:
        """Return the labels to score, [symbol, session, output]: those of stop, calibrate and test, else NaN."""
        y = np.full_like(sequences.y, np.nan)
        for part in (range(self.stop.start, self.calibrate.stop), self.test):
            y[:, part.start : part.stop] = sequences.y[:, part.start : part.stop]
        return y

    @property
    def parts(self) -> dict[str, range]:
        """The ranges by name, in chronological order."""
        return {"train": self.train, "stop": self.stop, "calibrate": self.calibrate, "test": self.test}


def require_labels(sequences: Sequences, fold: Fold, name: str) -> None:
    """Refuse a fold in which an output has no label to learn from, be stopped by or be calibrated on.

    Args:
        sequences: The whole history.
        fold: Its ranges.
        name: The fold's name in the message.

    Raises:
        InputError: names the output, the range and its sessions.
    """
    for part in ("train", "stop", "calibrate"):
        rows = fold.parts[part]
        inside = slice(rows.start, rows.stop)
        known = np.isfinite(sequences.y[:, inside]) & sequences.mask[:, inside, None]
        for place, output in enumerate(sequences.outputs):
            if not known[..., place].any():
                first, last = (f"{sequences.sessions[row]:%Y-%m-%d}" for row in (rows.start, rows.stop - 1))
                raise InputError(
                    f"{name}: no label {describe_output(output)} in its {part} range, {first} to {last}",
                    where="[labels] targets",
                    fix="leave that target out, or begin where there are opens and constituents enough: [prices] start",
                )


def scoring_fold(sequences: Sequences, evaluation: EvaluationConfig, training: TrainingConfig) -> Fold:
    """Return the fold that scores the procedure; its test rows are the last ones, and no fit sees them.

    Raises:
        InputError: the history is too short, or a date of `[evaluation]` is outside it.
    """
    if evaluation.test_end is None:
        return _cut(sequences, training, evaluation.test_sessions)
    return _cut_by_dates(sequences, evaluation)


def final_fold(sequences: Sequences, training: TrainingConfig) -> Fold:
    """Return the fold of the champion: the same split without a test range, through the last session.

    Raises:
        InputError: the history is too short.
    """
    return _cut(sequences, training, 0)


def walk_folds(
    sequences: Sequences, evaluation: EvaluationConfig, training: TrainingConfig, backtest: BacktestConfig
) -> list[Fold]:
    """Return the walk-forward folds in chronological order; each test range ends where the next one begins.

    With an expanding window every fold trains from the first session on; with a rolling one, on as many sessions as
    the first fold. With dates in `[evaluation]` there is a single fold.

    Raises:
        InputError: the history is too short, or a date of `[evaluation]` is outside it.
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
            f"which the first fold needs {before} before its test range",
            where="[backtest] train_sessions, [training] stop_sessions, calibrate_sessions",
            fix=_propose_walk(max(end - first, 0), gap),
        )
    return [_walk_fold(start, first, end, gap, training, backtest) for start in starts]


def _walk_fold(
    start: int, first: int, end: int, gap: int, training: TrainingConfig, backtest: BacktestConfig
) -> Fold:
    """Return the fold whose test range begins with row `start`."""
    calibrate = range(start - gap - training.calibrate_sessions, start - gap)
    stop = range(calibrate.start - gap - training.stop_sessions, calibrate.start - gap)
    train_stop = stop.start - gap
    return Fold(
        train=range(
            first if backtest.window == "expanding" else train_stop - backtest.train_sessions, train_stop
        ),
        stop=stop,
        calibrate=calibrate,
        test=range(start, min(start + backtest.refit_sessions, end)),
    )


def _cut(sequences: Sequences, training: TrainingConfig, test_sessions: int) -> Fold:
    first, end, gap = _first_row(sequences), len(sequences.sessions), max(sequences.horizons)
    # The last `gap` rows have no outcome yet, so they belong to no range.
    test = range(end - gap - test_sessions, end - gap) if test_sessions else range(end, end)
    calibrate = range(test.start - gap - training.calibrate_sessions, test.start - gap)
    stop = range(calibrate.start - gap - training.stop_sessions, calibrate.start - gap)
    train = range(first, stop.start - gap)
    if len(train) < MIN_TRAIN:
        raise InputError(
            f"There is too little history: {end - first} sessions with features, of which {test_sessions} go to "
            f"the test, {training.stop_sessions} to early stopping and {training.calibrate_sessions} to "
            f"calibration{_describe_gaps(gap, bool(test_sessions))}; {max(len(train), 0)} would be left to train on, "
            f"and at least {MIN_TRAIN} are needed",
            where="[evaluation] test_sessions, [training] stop_sessions, calibrate_sessions",
            fix=_propose(end - first, gap, test_sessions),
        )
    return Fold(train, stop, calibrate, test)


def _propose(sessions: int, gap: int, test_sessions: int) -> str:
    """Return the fix for a history that is too short for the ranges: numbers that fit, if there are any."""
    ranges = fit_ranges(sessions, gap)
    if ranges is None:
        return (
            f"fetch a longer history ([prices] start): at least {least_sessions(gap)} sessions with features are "
            "needed, and 750 (three years) or more tell something"
        )
    left = ranges.training(sessions, gap) + (0 if test_sessions else ranges.test + gap)
    tested = f"[evaluation] test_sessions = {ranges.test} and " if test_sessions else ""
    return (
        f"set {tested}[training] stop_sessions = {ranges.stop}, calibrate_sessions = {ranges.calibrate}: they fit and "
        f"leave {left} sessions to train on; or fetch a longer history ([prices] start)"
    )


def _propose_walk(sessions: int, gap: int) -> str:
    """Return the fix for a history that is too short for the first fold of a walk."""
    ranges = fit_ranges(sessions + gap, gap)
    longer = "fetch a longer history ([prices] start)"
    if ranges is None:
        return f"{longer}: 750 sessions (three years) or more tell something"
    return (
        f"set [backtest] train_sessions = {ranges.walk}, refit_sessions = {ranges.refit} and [training] "
        f"stop_sessions = {ranges.stop}, calibrate_sessions = {ranges.calibrate}: they fit; or {longer}"
    )


def _describe_gaps(gap: int, has_test: bool) -> str:
    """Describe how many sessions the gaps take; empty for gaps of one session."""
    return (
        ""
        if gap == 1
        else f" and {gap * (4 if has_test else 3)} are left out for labels {gap} sessions ahead"
    )


def _cut_by_dates(sequences: Sequences, evaluation: EvaluationConfig) -> Fold:
    """Split by target session: a row belongs to the range that contains all of its target sessions."""
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
    short = [name for name, part in fold.parts.items() if len(part) < (MIN_TRAIN if name == "train" else 1)]
    if short:
        raise InputError(
            f"The dates leave too few sessions for {' and '.join(short)}; the sessions with features run from "
            f"{sequences.sessions[first]:%Y-%m-%d} to {sequences.sessions[-1]:%Y-%m-%d}",
            where="[evaluation] train_end, validation_end, test_end",
            fix="give dates inside those sessions, or none to split by [evaluation] test_sessions",
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
            fix="fetch a longer history ([prices] start), or check the price findings of `nextday update`",
        )
    return int(valid.argmax())
