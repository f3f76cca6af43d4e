"""Plant a classic leak into a procedure, one at a time, to show what it would earn; nothing else is changed.

The list follows the literature on backtests of learned forecasts: Zhang, Peng, Chen and Li (2026), "When Alpha
Disappears" (arXiv:2605.23959), toggles one convention at a time; Lopez de Prado (2018), chapter 7, has the gap.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.feature_checks import FeatureAudit
from pipeline.audit.procedure_checks import Procedure
from pipeline.features.panel import build_panel
from pipeline.features.sequences import make_labels
from pipeline.features.targets import median_of, part_returns
from pipeline.forecasting.folds import Fold
from pipeline.outputs import NEXT, Output

__all__ = [
    "CENTRED",
    "NO_GAP",
    "SAME_OPEN",
    "SCALE",
    "SURVIVORS",
    "CannotPlantError",
    "Leak",
    "fill_at_same_open",
    "keep_survivors",
    "smooth_with_later",
    "without_gaps",
]

Floats = NDArray[np.float64]

SPAN: Final = 5
"""Sessions of the centred window: two before, the session, two after."""

_LATE: Final = 5
"""A symbol without a bar in so many last sessions has not survived."""


@dataclass(frozen=True)
class Leak:
    """A leak: its name in a few words, and what is planted, in a sentence."""

    name: str
    planted: str


SCALE: Final = Leak(
    "scale of all history",
    "The input scale is fitted on every session, those of the test included, instead of the training sessions.",
)
CENTRED: Final = Leak(
    "centred window",
    f"The last return is smoothed over {SPAN} sessions: two before, its own, and the two after it.",
)
SAME_OPEN: Final = Leak(
    "fill at the same day's open",
    "Every return begins at the open of the session whose close the features are computed from, a price that has "
    "passed, instead of that close or the next open. Its end stays.",
)
NO_GAP: Final = Leak(
    "no gap",
    "Train, stop, calibrate and test follow one another without a gap, so that a label h sessions ahead reaches h - 1 "
    "sessions into the next range. With h = 1 none does, and this can change nothing but chance.",
)
SURVIVORS: Final = Leak(
    "survivors",
    "The universe is the half of the symbols that did best through the last session; one that no longer trades then "
    "counts as the worst.",
)


class CannotPlantError(Exception):
    """A leak cannot be planted here; the message is the reason."""


def smooth_with_later(procedure: Procedure) -> Procedure:
    """Return the procedure whose last return is the mean of a centred window of SPAN sessions."""
    known, column = procedure.sequences, procedure.last_return
    values = pd.DataFrame(np.where(known.mask, known.x[:, :, column], np.nan).T)
    smoothed = values.rolling(SPAN, center=True, min_periods=1).mean().to_numpy().T
    x = known.x.copy()
    x[:, :, column] = np.where(known.mask, smoothed, 0.0)
    return replace(procedure, sequences=replace(known, x=x))


def without_gaps(fold: Fold) -> Fold:
    """Return the fold whose ranges follow one another without a gap: the same test, train longer by the gaps."""
    calibrate = range(fold.test.start - len(fold.calibrate), fold.test.start)
    stop = range(calibrate.start - len(fold.stop), calibrate.start)
    return replace(fold, train=range(fold.train.start, stop.start), stop=stop, calibrate=calibrate)


def fill_at_same_open(procedure: Procedure, audit: FeatureAudit) -> Procedure:
    """Return the procedure whose labels are those of returns that begin at the open of as_of.

    Raises:
        CannotPlantError: no symbol has real opens.
    """
    known, panel = procedure.sequences, build_panel(audit.block)
    belongs = audit.universe.membership(panel.sessions, panel.symbols).to_numpy()
    ahead = part_returns(panel, Output("intraday", NEXT))
    same_day = np.vstack([np.full_like(ahead[:1], np.nan), ahead[:-1]])
    if not np.isfinite(same_day).any():
        raise CannotPlantError("no symbol has real opens")
    returns = [_begin_at_open(part_returns(panel, _after_close(each)), same_day) for each in known.outputs]
    labelled = [
        each - median_of(each, belongs)[0][:, None] if output.is_relative else each
        for output, each in zip(known.outputs, returns, strict=True)
    ]
    y = [
        np.where(known.asked[:, :, place], make_labels(each).T, np.nan) for place, each in enumerate(labelled)
    ]
    leaking = replace(
        known,
        y=np.stack(y, axis=-1).astype(np.float32),
        returns=np.stack([each.T for each in labelled], axis=-1),
    )
    return replace(procedure, sequences=leaking)


def _after_close(output: Output) -> Output:
    """Return the output whose return begins at the close of as_of and ends where this one's does."""
    part = "direction" if output.part == "intraday" else output.part
    return Output(part, output.horizon)


def _begin_at_open(returns: Floats, same_day: Floats) -> Floats:
    return np.asarray((1 + same_day) * (1 + returns) - 1)


def keep_survivors(procedure: Procedure, audit: FeatureAudit) -> Procedure:
    """Return the procedure on the half of the symbols that did best through the last session.

    Raises:
        CannotPlantError: too few are left for a choice, or for a median.
    """
    panel, known = build_panel(audit.block), procedure.sequences
    level = pd.DataFrame(panel.adj_close)
    growth = level.ffill().iloc[-1].to_numpy() / level.bfill().iloc[0].to_numpy()
    growth = np.where(panel.has_bar[-_LATE:].any(axis=0), growth, 0.0)
    candidates = np.flatnonzero(known.mask.any(axis=1))
    if len(candidates) < 2:
        raise CannotPlantError("there is one symbol alone: nothing to choose from")
    best = candidates[np.argsort(-growth[candidates], kind="stable")[: (len(candidates) + 1) // 2]]
    kept = [panel.symbols[place] for place in best]
    entries = audit.universe.entries
    chosen = replace(audit.universe, entries=entries[entries["symbol"].isin(kept)])
    survivors = replace(audit, universe=chosen, outputs=known.outputs).make()
    if len(survivors.learnable) < len(known.outputs):
        raise CannotPlantError(f"{len(kept)} survivors are too few for the median of a relative target")
    return replace(procedure, sequences=survivors)
