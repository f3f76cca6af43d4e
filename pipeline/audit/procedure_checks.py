"""Tripwires of a procedure: its folds, its fit and its forecasts must not know what nobody could have known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.leakage_check import CheckResult, leakage_check
from pipeline.evaluation.horizons import select_horizon
from pipeline.evaluation.verdict import Verdict, judge
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.forecast import forecast
from pipeline.forecasting.model import Fitted, Model, fit
from pipeline.forecasting.walk_forward import mask_labels, walk_forward
from pipeline.market.calendar import Calendar
from pipeline.schema import FORECAST_KEY

__all__ = [
    "SAME",
    "Procedure",
    "check_changed_rest",
    "check_fewer_sessions",
    "check_folds",
    "check_later_sessions",
    "check_scale",
    "check_seed",
    "check_shuffled_labels",
    "check_symbol_order",
]

SAME: Final = 1e-6
"""What a forecast may differ by where it is computed in another shape."""

_LAST_DIGITS: Final = 1e-9
"""What the order of two forecasts may be wrong by."""

_SHOWN: Final = 250
"""Sessions of train whose forecasts are put in order."""

_BASE_RATE: Final = "base_rate"


@dataclass(frozen=True, eq=False)
class Procedure:
    """A model, and all that it is fitted and judged on.

    Attributes:
        name: Of the model.
        model: As configured, or a smaller one.
        base_rate: The model that says the base rate, which chance is measured beside.
        sequences: The history.
        fold: How it is cut; the test is not empty.
        calendar: Gives the target sessions.
        returns: Simple total returns [symbol, session, horizon].
        dead_zone: As configured.
        seed: Of every fit.
        last_return: The feature that holds the return of a row's own session.
        digest: Returns what two equal fits have in common, weights and scale included; empty: they are not compared.
        tolerance: What a forecast may differ by where it is computed in the same shape: nothing, where nextday promises
            it.
    """

    name: str
    model: Model
    base_rate: Model
    sequences: Sequences
    fold: Fold
    calendar: Calendar
    returns: NDArray[np.float64]
    dead_zone: tuple[float, float]
    seed: int
    last_return: int
    digest: Callable[[Fitted], str] = lambda fitted: ""
    tolerance: float = 0.0

    def with_known_labels(self) -> "Procedure":
        """Return the procedure with labels that can be learned: whether the last return was one of the higher ones.

        A network that finds nothing says the base rate every time, and then nothing can be seen of what it knows.
        """
        s = self.sequences
        last = s.x[:, :, self.last_return]
        higher = last > np.median(last[s.mask])
        y = np.where(np.isnan(s.y), s.y, higher[:, :, None]).astype(np.float32)
        return replace(self, sequences=replace(s, y=y))

    def taught(self) -> Sequences:
        """Return what a fit learns from."""
        return mask_labels(self.sequences, self.fold, self.returns, self.dead_zone)

    def fitted(self, taught: Sequences | None = None) -> Fitted:
        """Fit the model, on what it learns from or on something else."""
        return fit(self.model, taught or self.taught(), self.fold, self.seed)

    def forecasts(
        self, fitted: Fitted, rows: range | None = None, sequences: Sequences | None = None
    ) -> pd.DataFrame:
        """Forecast the test, or other sessions, of the history or of another one."""
        return forecast(fitted, sequences or self.sequences, rows or self.fold.test, self.calendar)


@leakage_check(
    "folds: a gap between neighbours",
    "The session in which the last label of each range ends was compared with the first session of the next range.",
)
def check_folds(folds: dict[str, Fold], sequences: Sequences) -> CheckResult:
    """Look for a range whose labels reach into the next one, at any horizon."""
    borders = 0
    for name, fold in folds.items():
        parts = [(part, rows) for part, rows in fold.parts.items() if len(rows)]
        for (before, rows), (after, following) in pairwise(parts):
            for horizon in sequences.horizons:
                borders += 1
                ends = rows.stop - 1 + horizon
                if ends >= following.start:
                    return CheckResult(
                        "failed",
                        f"{name}: the last label of {before}, {horizon} ahead, ends on "
                        f"{_day(sequences, ends)}, and {after} begins on {_day(sequences, following.start)}",
                    )
    return CheckResult("passed", f"{borders} borders: every label is known before the next range begins")


@leakage_check(
    "fit: the rest changed",
    "The model was fitted on labels that can be learned, and again with all changed that lies outside train, stop and "
    "calibrate: later features on another scale, labels of the gaps and of the test turned round.",
)
def check_changed_rest(procedure: Procedure, fitted: Fitted) -> CheckResult:
    """Look for a fit that knows more than its three ranges: a scale, a label, a share of ups of the test."""
    return _same_fit(procedure, fitted, procedure.fitted(_with_other_rest(procedure.taught(), procedure)))


@leakage_check(
    "fit: the scale is train's",
    "The model was fitted for one epoch, and again with the features of stop and calibrate on another scale: the order "
    "of its forecasts in train, which no calibration turns round, was compared.",
)
def check_scale(procedure: Procedure) -> CheckResult:
    """Look for a scale or a weight that comes from the ranges that only stop and calibrate.

    Args:
        procedure: With a model of one epoch: of several, the stop range chooses one, as it should.
    """
    fold, taught = procedure.fold, procedure.taught()
    x = taught.x.copy()
    for rows in (fold.stop, fold.calibrate):
        x[:, rows.start : rows.stop] *= 3
    shown = range(max(fold.train.stop - _SHOWN, fold.train.start), fold.train.stop)
    one, other = (
        procedure.forecasts(procedure.fitted(each), shown) for each in (taught, replace(taught, x=x))
    )
    both = one.merge(other, on=FORECAST_KEY, suffixes=("", "_again"))
    both = both.sort_values(["symbol", "horizon", "p_up", "p_up_again"])
    groups = both.groupby(["symbol", "horizon"])
    turned = (groups["p_up_again"].diff() < -_LAST_DIGITS).sum()
    told = f"{len(both):,} forecasts of {groups.ngroups} symbols and horizons"
    if turned:
        return CheckResult("failed", f"{told}: {turned:,} neighbours changed places")
    if min(both["p_up"].nunique(), both["p_up_again"].nunique()) < 2:
        return CheckResult("not applicable", f"{told}: where all are one, nothing can be seen")
    return CheckResult("passed", f"{told}, in the same order")


@leakage_check(
    "fit: equal seeds", "The model was fitted twice with equal seeds, on labels that can be learned."
)
def check_seed(procedure: Procedure, fitted: Fitted) -> CheckResult:
    """Look for chance that no seed decides."""
    return _same_fit(procedure, fitted, procedure.fitted())


@leakage_check(
    "forecasts: future cut off, and changed",
    "Sessions of the test were forecast again, without anything after them, and with everything after them changed.",
)
def check_later_sessions(procedure: Procedure, fitted: Fitted, count: int) -> CheckResult:
    """Look for a forecast that depends on sessions after its own."""
    rows, sequences = procedure.fold.test, procedure.sequences
    known, found = procedure.forecasts(fitted), []
    for cut in _cuts(rows, count):
        day = sequences.sessions[cut]
        earlier = known[known["as_of"] <= day]
        cut_off = procedure.forecasts(fitted, range(rows.start, cut + 1), sequences.through(day))
        changed = procedure.forecasts(fitted, rows, _with_other_future(sequences, cut + 1))
        found.append(_same(earlier, cut_off, SAME))
        found.append(_same(earlier, changed[changed["as_of"] <= day], procedure.tolerance))
    return next((one for one in found if one.status == "failed"), found[-1])


@leakage_check(
    "forecasts: reach",
    "Sessions of the test were forecast again one by one, from as many sessions before them as an evening reads.",
)
def check_fewer_sessions(procedure: Procedure, fitted: Fitted, count: int) -> CheckResult:
    """Look for a forecast that depends on sessions before those that an evening reads."""
    known, rows = procedure.forecasts(fitted), _cuts(procedure.fold.test, count)
    alone = pd.concat([procedure.forecasts(fitted, range(row, row + 1)) for row in rows])
    return _same(known[known["as_of"].isin(procedure.sequences.sessions[rows])], alone, SAME)


@leakage_check("forecasts: order of symbols", "The test was forecast again with the symbols backwards.")
def check_symbol_order(
    procedure: Procedure, fitted: Fitted, arranged: Callable[[Sequence[int]], Fitted]
) -> CheckResult:
    """Look for a forecast that depends on the place of a symbol among the others.

    Args:
        procedure: The procedure.
        fitted: Its fit.
        arranged: Returns the fit for a block whose symbols are these rows of the fitted one.
    """
    s, order = procedure.sequences, np.arange(len(procedure.sequences.symbols))[::-1]
    symbols = tuple(s.symbols[place] for place in order)
    backwards = replace(s, x=s.x[order], mask=s.mask[order], y=s.y[order], symbols=symbols)
    turned = procedure.forecasts(arranged(order.tolist()), sequences=backwards)
    return _same(procedure.forecasts(fitted), turned, SAME)


@leakage_check(
    "labels shuffled by session",
    "Whole sessions' labels changed places, each session's kept together; the procedure was fitted and scored on "
    "them, where nothing can be found, beside the base rate.",
)
def check_shuffled_labels(procedure: Procedure) -> CheckResult:
    """Look for a procedure that scores above chance on labels that say nothing.

    An interval of 95% lies above zero in one of forty honest looks: then another shuffle has the last word.
    """
    told = ""
    for shuffle in (0, 1):
        verdicts = _verdicts(_with_shuffled_labels(procedure, shuffle))
        if not any(np.isfinite(verdict.low) for verdict in verdicts):
            return CheckResult(
                "not applicable", f"{verdicts[0].sessions} sessions of the test are too few for an interval"
            )
        told = "; ".join(map(_tell, verdicts))
        if not any(verdict.low > 0 for verdict in verdicts):
            return CheckResult("passed", told + (" (of a second shuffle)" if shuffle else ""))
    return CheckResult("failed", f"{told}: above chance, in two shuffles")


def _tell(verdict: Verdict) -> str:
    return (
        f"log loss saved a session {verdict.difference:+z.5f} [{verdict.low:+z.5f}, {verdict.high:+z.5f}], "
        f"n = {verdict.n:,}"
    )


def _verdicts(procedure: Procedure) -> list[Verdict]:
    walked = walk_forward(
        {procedure.name: procedure.model, _BASE_RATE: procedure.base_rate},
        procedure.sequences,
        [procedure.fold],
        procedure.calendar,
        returns=procedure.returns,
        dead_zone=procedure.dead_zone,
        seed=procedure.seed,
        progress=lambda name: None,
    )
    own = pd.MultiIndex.from_frame(walked.test.loc[walked.test["model"] == procedure.name, FORECAST_KEY])
    # A model may leave symbols out that have too little history; both stand on the same rows.
    rows = walked.test[pd.MultiIndex.from_frame(walked.test[FORECAST_KEY]).isin(own)]
    return [
        judge(select_horizon(rows, horizon), model=procedure.name, baseline=_BASE_RATE, seed=procedure.seed)
        for horizon in procedure.sequences.horizons
    ]


def _with_shuffled_labels(procedure: Procedure, seed: int) -> Procedure:
    """Permute the sessions of the fold: what has a label there keeps having one."""
    first, stop = procedure.fold.train.start, procedure.fold.test.stop
    order = np.arange(len(procedure.sequences.sessions))
    order[first:stop] = first + np.random.default_rng(seed).permutation(stop - first)
    y = procedure.sequences.y[:, order]
    return replace(
        procedure, sequences=replace(procedure.sequences, y=y), returns=procedure.returns[:, order]
    )


def _with_other_rest(taught: Sequences, procedure: Procedure) -> Sequences:
    """Return what a fit learns from, with the rest changed; features in the gaps are history for the next range."""
    fold = procedure.fold
    outside = np.ones(len(taught.sessions), dtype=bool)
    for rows in (fold.train, fold.stop, fold.calibrate):
        outside[rows.start : rows.stop] = False
    turned = np.where(outside[None, :, None], 1 - procedure.sequences.y, taught.y)
    return replace(_with_other_future(taught, fold.calibrate.stop), y=turned.astype(np.float32))


def _with_other_future(sequences: Sequences, first: int) -> Sequences:
    """Return the block with every feature from `first` on another one, on another scale."""
    x = sequences.x.copy()
    rng = np.random.default_rng(1)
    later = rng.normal(3, 50, x[:, first:].shape).astype(np.float32)
    x[:, first:] = np.where(sequences.mask[:, first:, None], later, 0)
    return replace(sequences, x=x)


def _cuts(rows: range, count: int) -> list[int]:
    return sorted({int(row) for row in np.linspace(rows.start, rows.stop - 1, count)})


def _same_fit(procedure: Procedure, one: Fitted, other: Fitted) -> CheckResult:
    found = _same(procedure.forecasts(one), procedure.forecasts(other), procedure.tolerance)
    if found.status == "failed" or procedure.digest(one) == procedure.digest(other):
        return found
    return CheckResult("failed", f"{found.evidence}; but the weights, the scale or the calibration differ")


def _same(one: pd.DataFrame, other: pd.DataFrame, tolerance: float) -> CheckResult:
    """Compare forecasts row by row."""
    both = one.merge(other, on=FORECAST_KEY, how="outer", suffixes=("", "_again"), indicator=True)
    if both.empty:
        return CheckResult("not applicable", "no row of the test can be forecast")
    lowest, highest = both["p_up"].min(), both["p_up"].max()
    difference = np.max([(both[c] - both[f"{c}_again"]).abs() for c in ("p_up", "low", "high")], axis=0)
    offends = (difference > tolerance) | (both["_merge"] != "both").to_numpy()
    if offends.any():
        first = both[offends].sort_values(["as_of", "symbol"]).iloc[0]
        return CheckResult(
            "failed",
            f"{first['symbol']} {first['as_of']:%Y-%m-%d}: P(up) {first['p_up']:.8f} became "
            f"{first['p_up_again']:.8f}; {int(offends.sum()):,} of {len(both):,} forecasts differ",
        )
    largest = difference.max()
    same = "bit for bit the same" if largest == 0 else f"largest difference {largest:.0e}"
    told = f"{len(both):,} forecasts from {lowest:.1%} to {highest:.1%}, {same}"
    if lowest == highest and len(both) > 1:
        return CheckResult("not applicable", f"{told}: where all are one, nothing can be seen")
    return CheckResult("passed", told)


def _day(sequences: Sequences, session: int) -> str:
    return f"{sequences.sessions[min(session, len(sequences.sessions) - 1)]:%Y-%m-%d}"
