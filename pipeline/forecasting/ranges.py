"""How many sessions each range of the history gets where it is too short for the usual ones."""

from dataclasses import dataclass
from typing import Final

__all__ = ["MIN_TRAIN", "Ranges", "fit_ranges", "least_sessions"]

MIN_TRAIN: Final = 100
"""With fewer training sessions, a network of any size only fits the noise."""

_MIN_RANGE: Final = 20
"""The least that the settings allow for another range."""


@dataclass(frozen=True)
class Ranges:
    """Sessions of each range, as in the settings.

    Attributes:
        test, stop, calibrate: [evaluation] test_sessions, [training] stop_sessions and calibrate_sessions.
        walk: [backtest] train_sessions.
        refit: [backtest] refit_sessions.
    """

    test: int
    stop: int
    calibrate: int
    walk: int
    refit: int

    def training(self, sessions: int, gap: int) -> int:
        """Return how many of `sessions` are left to train on."""
        return sessions - self.test - self.stop - self.calibrate - 4 * gap


def least_sessions(gap: int) -> int:
    """Return the fewest sessions with features that can be split into these shares.

    Args:
        gap: The longest horizon: so many sessions are left out between ranges, and have no outcome at the end.
    """
    return 2 * MIN_TRAIN + 4 * gap


def fit_ranges(sessions: int, gap: int) -> Ranges | None:
    """Return shares of the history that leave about half of it to train on; None where it is too short for any.

    A quarter is tested, and an eighth each serves early stopping and calibration: the proportions of the default
    settings. The walk-forward backtest begins with three eighths of training and refits after each eighth.

    Args:
        sessions: How many have features.
        gap: The longest horizon.
    """
    if sessions < least_sessions(gap):
        return None
    shared = sessions - 4 * gap
    return Ranges(
        test=_tens(shared // 4),
        stop=_tens(shared // 8),
        calibrate=_tens(shared // 8),
        walk=max(_tens(shared * 3 // 8), MIN_TRAIN),
        refit=_tens(shared // 8),
    )


def _tens(sessions: int) -> int:
    return max(sessions // 10 * 10, _MIN_RANGE)
