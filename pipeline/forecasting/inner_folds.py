"""How the training range is cut again for a search, so that no choice of settings has seen a row that scores it.

A search sees the sessions up to the last training label and nothing behind them: neither the test rows nor those
that stop and calibrate the fit that is scored. Inside, history is cut as outside, twice, one slice apart:

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
"""A slice is an eighth of the training sessions at most: the first fold then trains on half of them."""

_MIN_SLICE, _MIN_TRAIN = 20, 100


def last_inside(fold: Fold, horizons: tuple[int, ...]) -> int:
    """Return the number of the last session that a search may see: that of the last training label."""
    return fold.train.stop - 1 + max(horizons)


def cut_inside(
    inside: Sequences, fold: Fold, *, stop_sessions: int, calibrate_sessions: int, test_sessions: int
) -> list[Fold]:
    """Cut the training range of a fold again, in order of time; `test` is the slice that validates.

    Args:
        inside: What a search may see: sessions through `last_inside`.
        fold: The one that scores the procedure.
        stop_sessions: Of a slice, at most.
        calibrate_sessions: Of a slice, at most.
        test_sessions: Of a slice, at most.

    Raises:
        InputError: the training range is too short to be cut again.
    """
    most, gap = len(fold.train) // _SHARE, max(inside.horizons)
    stop, calibrate, validate = (min(n, most) for n in (stop_sessions, calibrate_sessions, test_sessions))
    ends = [fold.train.stop - validate * later for later in range(FOLDS - 1, -1, -1)]
    folds = [_cut(fold.train.start, end, gap, stop, calibrate, validate) for end in ends]
    if most < _MIN_SLICE or len(folds[0].train) < _MIN_TRAIN:
        raise InputError(
            f"There is too little history for a search: it cuts the {len(fold.train)} training sessions again, and "
            f"{max(len(folds[0].train), 0)} would be left to train on; {_MIN_TRAIN} are the least, and "
            f"{_SHARE * _MIN_SLICE} to cut",
            where="[evaluation] test_sessions, [training] stop_sessions, calibrate_sessions",
            fix="fetch a longer history ([prices] start) or lower those numbers",
        )
    return folds


def _cut(first: int, end: int, gap: int, stop: int, calibrate: int, validate: int) -> Fold:
    validating = range(end - validate, end)
    calibrating = range(validating.start - gap - calibrate, validating.start - gap)
    stopping = range(calibrating.start - gap - stop, calibrating.start - gap)
    return Fold(range(first, stopping.start - gap), stopping, calibrating, validating)
