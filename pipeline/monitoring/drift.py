"""Drift of the inputs: how far the last sessions lie from the training, by feature. It explains and never alarms."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["RECENT", "describe_drift", "measure_drift"]

RECENT: Final = 60
"""Sessions (a quarter of trading) that are compared with the training."""

_BINS: Final = 10
_LEAST: Final = 1e-4
"""Share of an empty bin: the index would be infinite otherwise."""
_MOST: Final = 20_000
"""Values per feature of the training and of a block: more change nothing but the time."""
_NOTABLE: Final = 0.05

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


def measure_drift(x: Floats, mask: Mask, features: list[str], trained: int, *, seed: int = 0) -> pd.DataFrame:
    """Compare the last RECENT sessions with the training.

    `psi` is the population stability index, the sum over the training's deciles of (r - e) ln(r / e), e and r the
    shares of the training and of the last sessions (Siddiqi 2006, "Credit Risk Scorecards"; below 0.1 is usually called
    stable, above 0.25 a shift). `ks` is the two-sample Kolmogorov-Smirnov distance (scipy's ks_2samp). Neither comes
    with a p-value: rows of one session and sessions that follow each other are dependent, and thousands of rows make
    every distance "significant". Instead `blocks` says how usual it is: the share of the training's own blocks of
    RECENT sessions that lie at least as far from the whole training.

    Args:
        x: [symbol, session, feature], unscaled.
        mask: [symbol, session], the valid rows.
        features: The names.
        trained: The sessions up to this one are the training.
        seed: Of the sample of the training's values.

    Returns:
        feature, psi, ks, blocks; the feature with the largest distance first. Empty where the training has fewer than
        four blocks, or fewer than RECENT sessions have followed it in `x` at all.
    """
    from scipy.stats import ks_2samp  # half a second, which an evening without drift need not wait

    starts = range(0, trained - RECENT + 1, RECENT)
    last = slice(max(x.shape[1] - RECENT, 0), x.shape[1])
    columns = ["feature", "psi", "ks", "blocks"]
    if len(starts) < 4 or x.shape[1] < RECENT or not mask[:, last].any() or not mask[:, :trained].any():
        return pd.DataFrame(columns=columns)
    rng, rows = np.random.default_rng(seed), []
    drawn = [
        _draw(mask, slice(0, trained), rng),
        *(_draw(mask, slice(at, at + RECENT), rng) for at in starts),
    ]
    now = _draw(mask, last, rng)
    for place, name in enumerate(features):
        training, *blocks = (x[(*where, place)] for where in drawn)
        recent = x[(*now, place)]
        distance = ks_2samp(recent, training).statistic
        usual = [ks_2samp(block, training).statistic for block in blocks if len(block)]
        rows.append(
            (name, _stability_index(training, recent), distance, np.mean(np.array(usual) >= distance))
        )
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values(["ks", "feature"], ascending=[False, True], ignore_index=True)


def describe_drift(drift: pd.DataFrame) -> str:
    """Return which features lie farther from the training than its own blocks do, in a sentence; empty if unknown."""
    if drift.empty:
        return ""
    unusual = drift[drift["blocks"] <= _NOTABLE]
    if unusual.empty:
        return f"The inputs of the last {RECENT} sessions lie within what blocks of the training show."
    named = ", ".join(
        f"{row['feature']} (PSI {row['psi']:.2f}, KS {row['ks']:.2f})"
        for row in unusual.head(5).to_dict("records")
    )
    more = f" and {len(unusual) - 5} more" if len(unusual) > 5 else ""
    return (
        f"Inputs of the last {RECENT} sessions that lie farther from the training than nearly all of its own blocks: "
        f"{named}{more}. "
        "A shift of the inputs may explain a decay, and proves none."
    )


def _draw(mask: Mask, sessions: slice, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of at most _MOST valid rows of these sessions."""
    symbol, session = np.nonzero(mask[:, sessions])
    if len(symbol) > _MOST:
        chosen = rng.choice(len(symbol), _MOST, replace=False)
        symbol, session = symbol[chosen], session[chosen]
    return symbol, session + sessions.start


def _stability_index(training: Floats, recent: Floats) -> float:
    edges = np.unique(np.quantile(training, np.linspace(0, 1, _BINS + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) / len(values)
        for values in (training, recent)
    ]
    expected, found = (np.maximum(share, _LEAST) for share in shares)
    return float(((found - expected) * np.log(found / expected)).sum())
