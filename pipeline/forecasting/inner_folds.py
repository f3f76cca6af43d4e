"""Inner folds of a hyperparameter search, cut from the training range, so that no choice sees a row that scores it.

A search sees the sessions through the last training label and none after it: neither the test rows nor the stop and
calibrate rows of the scored fit. The training range is split like the whole history, twice, one slice apart:

    train ........................ | stop | calibrate | validate
    train ................................. | stop | calibrate | validate
"""

from typing import Final

from pipeline.errors import InputError
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold

__all__ = ["FOLDS", "cut_inside", "last_inside"]

FOLDS: Final = 2

_SHARE: Final = 8
"""A slice is at most an eighth of the training sessions, so the first fold trains on about half of them."""

_MIN_SLICE, _MIN_TRAIN = 20, 100


def last_inside(fold: Fold, horizons: tuple[int, ...]) -> int:
    """Return the number of the last session that a search may see: the target session of the last training label."""
    return fold.train.stop - 1 + max(horizons)


def cut_inside(
    inside: Sequences, fold: Fold, *, stop_sessions: int, calibrate_sessions: int, test_sessions: int
) -> list[Fold]:
    """Split the training range of a fold into inner folds, in chronological order; `test` is the validation slice.

    Args:
        inside: The sessions through `last_inside`, all that a search may see.
        fold: The fold that scores the procedure.
        stop_sessions: The longest stop slice.
        calibrate_sessions: The longest calibrate slice.
        test_sessions: The longest validation slice.

    Raises:
        InputError: the training range is too short to be split again.
    """
    most, gap = len(fold.train) // _SHARE, max(inside.horizons)
    stop, calibrate, validate = (min(n, most) for n in (stop_sessions, calibrate_sessions, test_sessions))
    ends = [fold.train.stop - validate * later for later in range(FOLDS - 1, -1, -1)]
    folds = [_cut(fold.train.start, end, gap, stop, calibrate, validate) for end in ends]
    if most < _MIN_SLICE or len(folds[0].train) < _MIN_TRAIN:
        raise InputError(
            f"There is too little history for a search: it splits the {len(fold.train)} training sessions again, and "
            f"{max(len(folds[0].train), 0)} would be left to train on; it needs at least {_MIN_TRAIN} of those, and "
            f"{_SHARE * _MIN_SLICE} to split",
            where="[evaluation] test_sessions, [training] stop_sessions, calibrate_sessions",
            fix="fetch a longer history ([prices] start) or lower those numbers",
        )
    return folds


def _cut(first: int, end: int, gap: int, stop: int, calibrate: int, validate: int) -> Fold:
    validation = range(end - validate, end)
    calibration = range(validation.start - gap - calibrate, validation.start - gap)
    stopping = range(calibration.start - gap - stop, calibration.start - gap)
    return Fold(range(first, stopping.start - gap), stopping, calibration, validation)
