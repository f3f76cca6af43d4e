"""Choose the calibration method: cross-validation by blocks of whole sessions, and the one-standard-error rule.

Rows of one session are correlated and labels of neighbouring sessions overlap, so a fold is a block of consecutive
sessions, and the fit leaves out as many sessions on both sides of it as the longest horizon
(Racine 2000, "Consistent cross-validatory model-selection for dependent data: hv-block cross-validation").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.calibration.bayes import PRIOR_DEVIATION, PRIOR_MEAN
from models.calibration.curves import METHODS, fit_curve
from models.calibration.rounding import round_diagnostic

__all__ = ["FOLDS", "Validation", "choose_method", "cross_validate"]

Floats = NDArray[np.float64]

FOLDS: Final = 5
"""Blocks of sessions that are held out, one after another."""

_LEAST: Final = 20
"""Minimum number of sessions to fit a curve on: with fewer, the comparison would be mostly noise."""

_CLIP: Final = 1e-12


@dataclass(frozen=True)
class Validation:
    """Score of one method on rows that it was not fitted on, to six significant digits.

    Attributes:
        method: Its name.
        log_loss: Mean over sessions of the sessions' mean log losses.
        behind: Difference to the log loss of the best method.
        standard_error: Of `behind`, over sessions; it is paired, for all methods are scored on the same rows. Newey
            and West (1987).
        n: Held-out rows.
        sessions: Number of sessions of these rows.
    """

    method: str
    log_loss: float
    behind: float
    standard_error: float
    n: int
    sessions: int


def choose_method(table: tuple[Validation, ...]) -> str:
    """Return the simplest method that is at most one standard error behind the best.

    Breiman, Friedman, Olshen and Stone (1984), "Classification and regression trees", section 3.4.3; Hastie,
    Tibshirani and Friedman (2009), "The elements of statistical learning", section 7.10. An empty table gives
    the first.
    """
    near = (line.method for line in table if line.behind <= line.standard_error)
    return next(near, METHODS[0])


def cross_validate(
    logits: Floats,
    y: Floats,
    session: NDArray[np.integer],
    *,
    base_rate: float,
    gap: int,
    prior: tuple[float, float] = (PRIOR_MEAN, PRIOR_DEVIATION),
) -> tuple[Validation, ...]:
    """Return the cross-validation score of every method, in the order of METHODS; empty with too few sessions.

    Args:
        logits: [row].
        y: [row] in {0, 1}.
        session: [row], number of the session.
        base_rate: Share of ups among the training rows.
        gap: Longest horizon; as many sessions are left out on both sides of a held-out block.
        prior: Of `bayes`: mean and standard deviation of the slope.
    """
    blocks = list(_blocks(session, gap))
    if not blocks or min(len(np.unique(session[fitted])) for fitted, _ in blocks) < _LEAST:
        return ()
    loss = np.zeros((len(METHODS), len(y)))
    for fitted, held in blocks:
        for number, method in enumerate(METHODS):
            curve = fit_curve(
                method,
                logits[fitted],
                y[fitted],
                base_rate=base_rate,
                session=session[fitted],
                gap=gap,
                prior=prior,
            )
            loss[number, held] = _log_losses(curve.p_up(logits[held]), y[held])
    return _compare(_by_session(loss, session), len(y), gap)


def _blocks(session: NDArray[np.integer], gap: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield the rows to fit on and the rows held out, both [row], for blocks of consecutive sessions."""
    for block in np.array_split(np.unique(session), FOLDS):
        if len(block):
            first, last = block[0], block[-1]
            yield (
                (session < first - gap) | (session > last + gap),
                (session >= first) & (session <= last),
            )


def _by_session(loss: Floats, session: NDArray[np.integer]) -> Floats:
    """Return the mean loss of each session, [method, session]."""
    _, place, count = np.unique(session, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(place, weights=line) / count for line in loss])


def _compare(loss: Floats, n: int, gap: int) -> tuple[Validation, ...]:
    behind = loss - loss[loss.mean(axis=1).argmin()]
    sessions = loss.shape[1]
    return tuple(
        Validation(
            method,
            log_loss=round_diagnostic(own.mean()),
            behind=round_diagnostic(more.mean()),
            standard_error=round_diagnostic(_standard_error(more, gap)),
            n=n,
            sessions=sessions,
        )
        for method, own, more in zip(METHODS, loss, behind, strict=True)
    )


def _standard_error(series: Floats, gap: int) -> float:
    """Return the standard error of the mean of `series` [session], whose values overlap over `gap` sessions."""
    if np.ptp(series) == 0:
        return 0.0
    # Imported here: it takes seconds, and loading a model needs none of it.
    from arch.covariance.kernel import Bartlett

    # Newey and West (1994), as in the verdict's test.
    lag = max(int(4 * (len(series) / 100) ** (2 / 9)), gap - 1)
    return float(np.sqrt(Bartlett(series, bandwidth=lag).cov.long_run[0, 0] / len(series)))


def _log_losses(p: Floats, y: Floats) -> Floats:
    return np.asarray(-np.log(np.clip(np.where(y > 0.5, p, 1 - p), _CLIP, None)))
