"""AUC over all pairs of rows, over the pairs within a session, and between sessions.

The plain AUC mixes two skills: ranking the stocks of one session, and market timing, which ranks the sessions. They
call for different uses of a model, so they are measured apart.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.metrics import auc, effective_n_of, mean_of
from pipeline.statistics.ranking import ranks_within_sessions

__all__ = [
    "BINS",
    "auc_between_sessions",
    "auc_of_bins",
    "auc_of_copies",
    "auc_within_sessions",
    "count_levels",
    "effective_n_of_auc",
    "effective_n_within_sessions",
    "mean_by_session",
    "rank_levels",
    "ranked_bins",
    "sessions_won",
    "wins_of_ranks",
    "wins_within_sessions",
]

BINS: Final = 1000
"""Resampled AUCs and recalibrations replace p by its bin, among at most this many bins of equally many rows. With no
more distinct p than this they are exact; otherwise they ignore the order inside a bin, a thousandth of the rows."""

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def auc_within_sessions(p: Floats, y: Floats, session: Places) -> float:
    """Return the AUC within sessions: the chance that an up has a higher p than a down of its session; ties count half.

    sum over sessions of wins_s / sum over sessions of n1_s n0_s, with Mann and Whitney's (1947) count of wins: the
    AUC stratified by session, with equal weight per pair. Moves of a whole session do not enter it.
    The stratified test goes back to van Elteren (1960), "On the combination of independent two sample tests of
    Wilcoxon"; as a measure of discrimination, Janes and Pepe (2009), "Covariate-adjusted ROC curve".

    Args:
        p, y: Forecasts and outcomes, [row].
        session: [row], numbers from 0 without gaps.
    """
    wins, pairs = wins_within_sessions(rank_levels(p), y, session)
    return float(mean_of(wins.sum(), pairs.sum()))


def auc_between_sessions(p: Floats, y: Floats, session: Places) -> float:
    """Return the AUC between sessions: the chance that a risen session has a higher mean p than a fallen one.

    The AUC of one case per session: its mean p against whether more than half of its labelled rows went up; ties count
    half. Sessions with exactly half are left out. It measures market timing: differences within a session do not enter.
    """
    won = sessions_won(y, session)
    decided = ~np.isnan(won)
    return auc(mean_by_session(p, session)[decided], won[decided])


def rank_levels(p: Floats) -> Places:
    """Return the number of each row's p among the distinct ones, by rising p."""
    return np.unique(p, return_inverse=True)[1]


def count_levels(level: Places, y: Floats) -> tuple[Floats, Floats]:
    """Return how many rows each level of `rank_levels` has, and how many of them went up."""
    return np.bincount(level).astype(float), np.bincount(level, y).astype(float)


def wins_within_sessions(level: Places, y: Floats, session: Places) -> tuple[Floats, Floats]:
    """Return the pairs of each session whose up has the higher p (ties: half), and all its pairs of an up and a down.

    Args:
        level: Of `rank_levels`, [row].
        y, session: As for `auc_within_sessions`.
    """
    return wins_of_ranks(ranks_within_sessions(level, session).rank, y, session)


def wins_of_ranks(rank: Floats, y: Floats, session: Places) -> tuple[Floats, Floats]:
    """Return `wins_within_sessions` from the rank of each p inside its session [row]."""
    rows, ups = np.bincount(session), np.bincount(session, y)
    return np.bincount(session, rank * y) - ups * (ups + 1) / 2, ups * (rows - ups)


def sessions_won(y: Floats, session: Places) -> Floats:
    """Return [session] 1 where more than half of the rows went up, 0 for less than half, NaN for exactly half."""
    share = mean_by_session(y, session)
    return np.where(share == 0.5, np.nan, (share > 0.5).astype(float))


def mean_by_session(values: Floats, session: Places) -> Floats:
    """Return the mean of each session, rounded to 9 digits so that equal values have equal means."""
    return np.round(np.bincount(session, values) / np.bincount(session), 9)


def ranked_bins(level: Places, most: int = BINS) -> Places:
    """Return the bin of each row, numbered by rising p: one bin per distinct p, or `most` of about equally many rows.

    Args:
        level: Of `rank_levels`, [row].
        most: The largest number of bins.
    """
    count = np.bincount(level)
    if len(count) <= most:
        return level
    place = (np.cumsum(count) - 1) * most // len(level)
    return (np.cumsum(np.diff(place, prepend=-1) > 0) - 1)[level]


def auc_of_bins(ups: Floats, downs: Floats) -> Floats:
    """Return the AUC [...] of counts [..., bin], the bins by rising p; rows of one bin are ties."""
    beaten = np.cumsum(downs, axis=-1) - downs / 2
    return mean_of((ups * beaten).sum(axis=-1), ups.sum(axis=-1) * downs.sum(axis=-1))


def auc_of_copies(p: Floats, y: Floats, copies: Floats) -> Floats:
    """Return the AUC [draw] of resampled cases.

    Args:
        p, y: Forecasts and outcomes, [case].
        copies: [draw, case], how often each draw has each case.
    """
    if not len(p):
        return np.full(len(copies), np.nan)
    order = np.argsort(p)
    starts = np.flatnonzero(np.diff(p[order], prepend=np.nan) != 0)
    drawn, up = copies[:, order], y[order]
    ups = drawn * up
    downs = drawn - ups
    if len(starts) < len(p):
        ups, downs = (np.add.reduceat(each, starts, axis=1) for each in (ups, downs))
    return auc_of_bins(ups, downs)


def effective_n_of_auc(level: Places, y: Floats, session: Places) -> float:
    """Return the number of independent rows that would estimate the AUC as precisely as these rows.

    `effective_n` of each row's contribution: the share of downs that an up beats, or of ups that beat a down, less the
    AUC and weighted by its class. Obuchowski (1997), "Nonparametric analysis of clustered ROC
    curve data", on the placements of DeLong, DeLong and Clarke-Pearson (1988).

    Args:
        level: Of `rank_levels`, [row].
        y, session: As for `auc_within_sessions`.
    """
    count, ups = count_levels(level, y)
    downs = count - ups
    if not ups.any() or not downs.any():
        return float(np.count_nonzero(np.bincount(session)))
    beats = (np.cumsum(downs) - downs / 2) / downs.sum()
    beaten = 1 - (np.cumsum(ups) - ups / 2) / ups.sum()
    found = float(auc_of_bins(ups, downs))
    parts = np.where(
        y == 1, (beats[level] - found) * len(y) / ups.sum(), (beaten[level] - found) * len(y) / downs.sum()
    )
    return effective_n_of(parts, session)


def effective_n_within_sessions(wins: Floats, pairs: Floats, rows: Floats) -> float:
    """Return the number of independent rows that would estimate the AUC within sessions as precisely as these rows.

    n sum(n1_s n0_s (n_s + 1) / 12) / sum((wins_s - AUC n1_s n0_s)^2), clipped to [1, n]: Mann and Whitney's (1947)
    variance of the wins of independent rows, divided by the observed variance over the sessions.

    Args:
        wins, pairs: Of `wins_within_sessions`, [session].
        rows: Rows of each session.
    """
    shown = float(np.sum((wins - mean_of(wins.sum(), pairs.sum()) * pairs) ** 2)) if pairs.any() else 0.0
    if shown < 1e-9:
        return float(len(rows))
    return float(min(max(rows.sum() * np.sum(pairs * (rows + 1)) / 12 / shown, 1.0), rows.sum()))
