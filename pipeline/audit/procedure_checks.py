"""Leakage checks of a procedure: its folds, its fit and its forecasts must not use information of the future."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from pipeline.audit.leakage_check import CheckResult, leakage_check
from pipeline.evaluation.verdict import BASE_RATE, Verdict, judge
from pipeline.features.sequences import Sequences
from pipeline.forecasting.folds import Fold
from pipeline.forecasting.forecast import forecast
from pipeline.forecasting.model import Fitted, Labelled, Model, Trained, fit
from pipeline.forecasting.walk_forward import mask_labels, walk_forward
from pipeline.formatting import format_alike
from pipeline.market.calendar import Calendar
from pipeline.outputs import select_output
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
    "walk_test",
]

SAME: Final = 1e-6
"""Allowed difference of a forecast that is computed in arrays of another shape."""

_LAST_DIGITS: Final = 1e-9
"""Allowed difference before two forecasts count as being in another order."""

_SHOWN: Final = 250
"""Sessions of the training range whose forecasts are ranked."""


@dataclass(frozen=True, eq=False)
class Procedure:
    """A model, with everything that it is fitted and judged on.

    Attributes:
        name: Name of the model.
        model: The configured model, or a smaller one.
        base_rate: The base-rate model, the reference for chance.
        sequences: Features and labels of the whole history.
        fold: How the history is split; its test is not empty.
        calendar: Gives the target sessions.
        dead_zone: The configured dead zone of the labels.
        seed: Seed of every fit.
        refit: Whether the model is fitted a second time, on all sessions before the test.
        last_return: The feature that holds the return of a row's own session.
        digest: Returns the digest of a fit, its weights and scale included; empty: only forecasts are compared.
        tolerance: Allowed difference of a forecast computed in arrays of the same shape: 0 where nextday promises exact
            equality.
    """

    name: str
    model: Model
    base_rate: Model
    sequences: Sequences
    fold: Fold
    calendar: Calendar
    dead_zone: tuple[float, float]
    seed: int
    refit: bool
    last_return: int
    digest: Callable[[Fitted], str] = lambda fitted: ""
    tolerance: float = 0.0

    def with_known_labels(self) -> "Procedure":
        """Return the procedure with labels that can be learned: whether the last return is above the median.

        A network that learns nothing always forecasts the base rate, which would hide any leak.
        """
        s = self.sequences
        last = s.x[:, :, self.last_return]
        higher = last > np.median(last[s.mask])
        y = np.where(np.isnan(s.y), s.y, higher[:, :, None]).astype(np.float32)
        return replace(self, sequences=replace(s, y=y))

    def learned(self) -> Labelled:
        """Return the sequences with only the labels that a fit may use."""
        return mask_labels(self.sequences, self.fold, self.dead_zone, refit=self.refit)

    def fitted(self, known: Labelled | None = None) -> Trained:
        """Fit the model on what it may see, or on something else."""
        return fit(self.model, known or self.learned(), self.fold, self.seed)

    def forecasts(
        self, fitted: Fitted, rows: range | None = None, sequences: Sequences | None = None
    ) -> pd.DataFrame:
        """Forecast the test, or other sessions, from the history or from other sequences."""
        return forecast(fitted, sequences or self.sequences, rows or self.fold.test, self.calendar)


@leakage_check(
    "folds: a gap between neighbours",
    "The session in which the last label of each range ends was compared with the first session of the next range.",
)
def check_folds(folds: dict[str, Fold], sequences: Sequences) -> CheckResult:
    """Check that no label of a range reaches into the next one, at any horizon."""
    borders = 0
    for name, fold in folds.items():
        parts = [(part, rows) for part, rows in fold.parts.items() if len(rows)]
        for (before, rows), (after, following) in pairwise(parts):
            for horizon in sorted({*sequences.horizons}):
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
    "The model was fitted on labels that can be learned, and again with everything outside train, stop and calibrate "
    "changed: later features on another scale, labels of the gaps and of the test flipped.",
)
def check_changed_rest(procedure: Procedure, fitted: Fitted) -> CheckResult:
    """Check that a fit uses its three ranges alone: no scale, label or base rate of the test."""
    found = _compare_fits(
        procedure, fitted, procedure.fitted(_with_other_rest(procedure.learned(), procedure))
    )
    if found.status == "failed" or not procedure.refit:
        return found
    # The second fit may learn from the gaps, so their labels are changed for the first one alone.
    once = replace(procedure, refit=False)
    first = _compare_fits(once, once.fitted(), once.fitted(_with_other_rest(once.learned(), once)))
    return first if first.status == "failed" else found


@leakage_check(
    "fit: the scale is train's",
    "The model was fitted for one epoch, and again with the features of stop and calibrate on another scale: the ranks "
    "of its forecasts in train, which calibration does not change, were compared.",
)
def check_scale(procedure: Procedure) -> CheckResult:
    """Check that no scale or weight comes from the stop and calibrate ranges.

    Args:
        procedure: With a model of one epoch: among several epochs the stop range would choose, as it should. The
            first fit is checked; a second one learns from these ranges, on the scale of the first.
    """
    fold, known = procedure.fold, procedure.learned()
    x = known.sequences.x.copy()
    for rows in (fold.stop, fold.calibrate):
        x[:, rows.start : rows.stop] *= 3
    shown = range(max(fold.train.stop - _SHOWN, fold.train.start), fold.train.stop)
    scaled = replace(known, sequences=replace(known.sequences, x=x))
    one, other = (procedure.forecasts(procedure.fitted(each).held_out, shown) for each in (known, scaled))
    both = one.merge(other, on=FORECAST_KEY, suffixes=("", "_again"))
    both = both.sort_values(["symbol", "target", "horizon", "p_up", "p_up_again"])
    groups = both.groupby(["symbol", "target", "horizon"])
    swapped = (groups["p_up_again"].diff() < -_LAST_DIGITS).sum()
    evidence = f"{len(both):,} forecasts of {groups.ngroups} symbols and outputs"
    if swapped:
        return CheckResult("failed", f"{evidence}: {swapped:,} neighbours in the ranking changed places")
    if min(both["p_up"].nunique(), both["p_up_again"].nunique()) < 2:
        return CheckResult("not applicable", f"{evidence}, all equal: a leak could not be seen")
    return CheckResult("passed", f"{evidence}, in the same order")


@leakage_check(
    "fit: equal seeds", "The model was fitted twice with equal seeds, on labels that can be learned."
)
def check_seed(procedure: Procedure, fitted: Fitted) -> CheckResult:
    """Check that the seed decides all randomness."""
    return _compare_fits(procedure, fitted, procedure.fitted())


@leakage_check(
    "forecasts: future cut off, and changed",
    "Sessions of the test were forecast again, once without the later sessions and once with all of them changed.",
)
def check_later_sessions(procedure: Procedure, fitted: Fitted, count: int) -> CheckResult:
    """Check that no forecast depends on sessions after its own."""
    rows, sequences = procedure.fold.test, procedure.sequences
    known, found = procedure.forecasts(fitted), []
    for cut in _cuts(rows, count):
        day = sequences.sessions[cut]
        earlier = known[known["as_of"] <= day]
        cut_off = procedure.forecasts(fitted, range(rows.start, cut + 1), sequences.through(day))
        changed = procedure.forecasts(fitted, rows, _with_other_future(sequences, cut + 1))
        found.append(_compare_forecasts(earlier, cut_off, SAME))
        found.append(_compare_forecasts(earlier, changed[changed["as_of"] <= day], procedure.tolerance))
    return next((one for one in found if one.status == "failed"), found[-1])


@leakage_check(
    "forecasts: reach",
    "Sessions of the test were forecast again one by one, from only as many earlier sessions as a live forecast reads.",
)
def check_fewer_sessions(procedure: Procedure, fitted: Fitted, count: int) -> CheckResult:
    """Check that no forecast depends on sessions before those that a live forecast reads."""
    known, rows = procedure.forecasts(fitted), _cuts(procedure.fold.test, count)
    alone = pd.concat([procedure.forecasts(fitted, range(row, row + 1)) for row in rows])
    return _compare_forecasts(known[known["as_of"].isin(procedure.sequences.sessions[rows])], alone, SAME)


@leakage_check(
    "forecasts: order of symbols", "The test was forecast again with the symbols in reverse order."
)
def check_symbol_order(
    procedure: Procedure, fitted: Fitted, arranged: Callable[[Sequence[int]], Fitted]
) -> CheckResult:
    """Check that no forecast depends on its symbol's position among the others.

    Args:
        procedure: The procedure.
        fitted: A fit of it.
        arranged: Returns the fit for a block whose symbols are the given rows of the original block.
    """
    s, order = procedure.sequences, np.arange(len(procedure.sequences.symbols))[::-1]
    symbols = tuple(s.symbols[place] for place in order)
    backwards = replace(s, x=s.x[order], mask=s.mask[order], y=s.y[order], symbols=symbols)
    reordered = procedure.forecasts(arranged(order.tolist()), sequences=backwards)
    return _compare_forecasts(procedure.forecasts(fitted), reordered, SAME)


@leakage_check(
    "labels shuffled by session",
    "The labels of whole sessions were shuffled, each session's kept together; the procedure was fitted on them and "
    "scored against the base rate, where there is nothing to find.",
)
def check_shuffled_labels(procedure: Procedure) -> CheckResult:
    """Check that the procedure does not score above chance on labels without information.

    A 95% interval lies above zero by chance once in forty times: then a second shuffle decides.
    """
    evidence = ""
    for shuffle in (0, 1):
        verdicts = _verdicts(_with_shuffled_labels(procedure, shuffle))
        if not any(np.isfinite(verdict.low) for verdict in verdicts):
            return CheckResult(
                "not applicable", f"{verdicts[0].sessions} sessions of the test are too few for an interval"
            )
        evidence = "; ".join(map(_format_verdict, verdicts))
        if not any(verdict.low > 0 for verdict in verdicts):
            return CheckResult("passed", evidence + (" (second shuffle)" if shuffle else ""))
    return CheckResult("failed", f"{evidence}: above chance, in two shuffles")


def _format_verdict(verdict: Verdict) -> str:
    saved, low, high = format_alike(verdict.difference, verdict.low, verdict.high, decimals=5)
    return f"log loss saved per session {saved} [{low}, {high}], n = {verdict.n:,}"


def walk_test(procedure: Procedure) -> pd.DataFrame:
    """Fit the model and the base rate on the fold; return the rows of the test that the model forecasts, of both."""
    walked = walk_forward(
        {procedure.name: procedure.model, BASE_RATE: procedure.base_rate},
        procedure.sequences,
        [procedure.fold],
        procedure.calendar,
        dead_zone=procedure.dead_zone,
        seed=procedure.seed,
        refit=procedure.refit,
        progress=lambda name: None,
    )
    own = pd.MultiIndex.from_frame(walked.test.loc[walked.test["model"] == procedure.name, FORECAST_KEY])
    # A model may leave out symbols with too little history: the baseline is scored on its rows.
    return walked.test[pd.MultiIndex.from_frame(walked.test[FORECAST_KEY]).isin(own)]


def _verdicts(procedure: Procedure) -> list[Verdict]:
    rows = walk_test(procedure)
    return [
        judge(select_output(rows, output), model=procedure.name, baseline=BASE_RATE, seed=procedure.seed)
        for output in procedure.sequences.outputs
    ]


def _with_shuffled_labels(procedure: Procedure, seed: int) -> Procedure:
    """Return the procedure with the labels of the fold's sessions permuted; features stay where they are."""
    first, stop = procedure.fold.train.start, procedure.fold.test.stop
    order = np.arange(len(procedure.sequences.sessions))
    order[first:stop] = first + np.random.default_rng(seed).permutation(stop - first)
    known = procedure.sequences
    shuffled = replace(known, y=known.y[:, order], returns=known.returns[:, order])
    return replace(procedure, sequences=shuffled)


def _with_other_rest(known: Labelled, procedure: Procedure) -> Labelled:
    """Return what a fit sees with the rest changed, but for features in the gaps, which the next range reads.

    The labels in the gaps are known before the test, and a second fit may learn from them: they keep theirs there.
    """
    fold, sequences = procedure.fold, known.sequences
    outside = np.ones(len(sequences.sessions), dtype=bool)
    for rows in (fold.train, fold.stop, fold.calibrate):
        outside[rows.start : rows.stop] = False
    flipped = np.where(outside[None, :, None], 1 - procedure.sequences.y, sequences.y).astype(np.float32)
    changed = replace(_with_other_future(sequences, fold.calibrate.stop), y=flipped)
    if known.refit is None:
        return Labelled(changed)
    outside[fold.train.start : fold.calibrate.stop] = False
    again = np.where(outside[None, :, None], 1 - procedure.sequences.y, known.refit)
    return Labelled(changed, again.astype(np.float32))


def _with_other_future(sequences: Sequences, first: int) -> Sequences:
    """Return the sequences with every feature from session `first` on replaced by noise on another scale."""
    x = sequences.x.copy()
    rng = np.random.default_rng(1)
    later = rng.normal(3, 50, x[:, first:].shape).astype(np.float32)
    x[:, first:] = np.where(sequences.mask[:, first:, None], later, 0)
    return replace(sequences, x=x)


def _cuts(rows: range, count: int) -> list[int]:
    return sorted({int(row) for row in np.linspace(rows.start, rows.stop - 1, count)})


def _compare_fits(procedure: Procedure, one: Fitted, other: Fitted) -> CheckResult:
    found = _compare_forecasts(procedure.forecasts(one), procedure.forecasts(other), procedure.tolerance)
    if found.status == "failed" or procedure.digest(one) == procedure.digest(other):
        return found
    return CheckResult("failed", f"{found.evidence}; but the weights, the scale or the calibration differ")


def _compare_forecasts(one: pd.DataFrame, other: pd.DataFrame, tolerance: float) -> CheckResult:
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
    same = "bit for bit equal" if largest == 0 else f"largest difference {largest:.0e}"
    evidence = f"{len(both):,} forecasts from {lowest:.1%} to {highest:.1%}, {same}"
    if lowest == highest and len(both) > 1:
        return CheckResult("not applicable", f"{evidence}, all equal: a leak could not be seen")
    return CheckResult("passed", evidence)


def _day(sequences: Sequences, session: int) -> str:
    return f"{sequences.sessions[min(session, len(sequences.sessions) - 1)]:%Y-%m-%d}"
