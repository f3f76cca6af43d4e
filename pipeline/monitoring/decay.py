"""The decay alarm: a test on the sealed live record that may be looked at every evening for years."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.formatting import count
from pipeline.outputs import Output, describe_output, name_key, select_output
from pipeline.schema import is_void
from pipeline.statistics import bootstrap
from pipeline.statistics.e_process import merge_classes

__all__ = ["ALPHA", "DOUBTFUL", "FEWEST", "Decay", "judge_decay", "measure_floor"]

Floats = NDArray[np.float64]

ALPHA: Final = 0.05
"""Probability of a false alarm over the whole life of a record, for each output."""

DOUBTFUL: Final = 5.0
"""Evidence from which a record is doubtful: without any decay it is ever reached with a probability of at most 20%."""

FEWEST: Final = 20
"""Live sessions (a month) before anything is said."""

_TESTS: Final = 2
"""Against the base rate and against the backtest: each has half of ALPHA."""

_CLIP: Final = 1e-6

State = Literal["too early", "as expected", "doubtful", "decayed"]


@dataclass(frozen=True)
class Decay:
    """What the alarm says of one output's live record.

    Attributes:
        output: The output.
        state: too early, as expected, doubtful or decayed. Decayed stays until a person accepts it.
        sessions: Live sessions with an outcome, one number each.
        evidence: The evidence of decay now: the larger of the two e-values, halved. 1 is none; DOUBTFUL and 1 / ALPHA
            are the limits.
        against: "base rate" or "backtest": what the record is worse than, as far as the evidence goes.
        since: The last session used (as_of) of the forecast whose outcome raised the alarm; None without an alarm.
        begun: The session from which on most of that evidence comes; None where it is too early.
        saved: Mean log loss saved per live session against the base rate, in nats; NaN without a session.
        floor: The mean of what the backtests promised at least, in nats per session; NaN where no backtest says.
        is_simulated: Whether the record is that of a simulation, which has no live session.
    """

    output: Output
    state: State
    sessions: int
    evidence: float = 1.0
    against: str = ""
    since: pd.Timestamp | None = None
    begun: pd.Timestamp | None = None
    saved: float = math.nan
    floor: float = math.nan
    is_simulated: bool = False

    @property
    def key(self) -> str:
        """A name that changes when the finding does, for the log of what was told."""
        since = self.since if self.since is not None else self.begun
        return f"{name_key(self.output)} {self.state}" + (f" {since:%Y-%m-%d}" if since is not None else "")

    @property
    def is_news(self) -> bool:
        """Whether a person should look at it."""
        return self.state in ("doubtful", "decayed")

    @property
    def title(self) -> str:
        """The state in a few words: "as expected", "decayed since 2026-10-02"."""
        if self.state == "too early":
            return f"too early: {count(self.sessions, 'session')}"
        return self.state if self.since is None else f"{self.state} since {self.since:%Y-%m-%d}"

    @property
    def evidence_text(self) -> str:
        """The evidence in one sentence; empty where it is too early."""
        if self.state == "too early":
            return ""
        floor = (
            "" if math.isnan(self.floor) else f", at least {self.floor * 1000:+.2f} promised by the backtest"
        )
        worse = ""
        if self.begun is not None and self.evidence > 1:
            worse = f"; most of it against the {self.against}, from {self.begun:%Y-%m-%d} on"
        kind = "simulated" if self.is_simulated else "live"
        return (
            f"{count(self.sessions, f'{kind} session')}, {self.saved * 1000:+.2f} thousandths of a nat saved per "
            f"session against the base rate{floor}; evidence of decay {self.evidence:.3g} "
            f"(doubtful from {DOUBTFUL:g}, decayed from {1 / ALPHA:g}){worse}"
        )

    @property
    def sentence(self) -> str:
        """The output, its state and the evidence."""
        return f"{describe_output(self.output)}: {self.title}" + (
            f"; {self.evidence_text}" if self.evidence_text else ""
        )


@dataclass(frozen=True, eq=False)
class _Sessions:
    """One number per live session and its bounds, in order of time.

    Attributes:
        days: [session], as_of; up to the last one with an outcome.
        has_outcome: [session], whether a row of it has an outcome.
        saved: [session], the sum over settled rows of log p(outcome) - log base rate(outcome), over the issued rows.
        behind: [session], the same of floor - saved; 0 where there is no floor.
        most: [session], the largest possible `saved`, known when the forecasts were issued.
        most_behind: [session], the bound of -`behind`, likewise.
        floor: [session], NaN where there is none.
    """

    days: pd.DatetimeIndex
    has_outcome: NDArray[np.bool_]
    saved: Floats
    behind: Floats
    most: Floats
    most_behind: Floats
    floor: Floats


def judge_decay(
    record: pd.DataFrame,
    output: Output,
    floors: Mapping[str, float],
    *,
    accepted_at: pd.Timestamp | None = None,
    is_simulated: bool = False,
) -> Decay:
    """Test whether the live record of an output has decayed.

    Each session gives one number, because its rows are dependent: the log loss that the forecasts saved against their
    base rates, a mean over the rows issued (a row without an outcome counts as zero). Two nulls, each tested by an
    e-process (`pipeline.statistics.e_process`):

    - base rate: given everything known before, the expected number of no session is below 0: the forecasts are never
      worse than the base rate;
    - backtest: it is never below the floor of the champion that made the forecasts, the lower end of the 95%
      interval of the same number in the backtest of its training (`measure_floor`). The floor and not the mean: the
      mean is an estimate, and the chosen model's is too high on average; a test against it would raise alarms over the
      backtest's own error.

    The largest possible number of a session is known when its forecasts are issued, mean of max(log p / b,
    log (1 - p) / (1 - b)), which bounds what a bet can lose. The alarm is raised when one of the two e-values reaches
    2 / ALPHA: if both nulls hold, that happens ever in the life of the record with a probability of at most ALPHA.

    Args:
        record: The ledger's champion rows with their outcomes; others than live ones are ignored, and void ones.
        output: Which output.
        floors: By model_version, in nats per session; NaN or none: that backtest says nothing.
        accepted_at: When a person said that it goes on: only forecasts issued later count.
        is_simulated: Whether the record is that of a simulation: the rows given, all late, are tested as live ones
            would be.
    """
    rows = select_output(record, output)
    rows = rows[(rows["kind"] == ("late" if is_simulated else "live")) & ~is_void(rows)]
    if accepted_at is not None:
        rows = rows[rows["issued_at"] > accepted_at]
    # Sums of a session's rows in another order differ in their last bits, and evidence multiplies that.
    table = _sum_sessions(rows.sort_values(["as_of", "symbol"], kind="stable"), floors)
    sessions = int(table.has_outcome.sum())
    if sessions < FEWEST:
        return Decay(output, "too early", sessions, is_simulated=is_simulated)
    base = merge_classes(-table.saved, table.most, horizon=output.horizon)
    backtest = merge_classes(table.behind, table.most_behind, horizon=output.horizon)
    log_e = np.stack([base.log_e, backtest.log_e]) - math.log(_TESTS)
    highest = log_e.max(axis=0)
    alarms = np.flatnonzero(highest >= -math.log(ALPHA))
    at = int(alarms[0]) if len(alarms) else len(highest) - 1
    test = int(np.argmax(log_e[:, at]))
    state: State = (
        "decayed" if len(alarms) else "doubtful" if highest[-1] >= math.log(DOUBTFUL) else "as expected"
    )
    return Decay(
        output,
        state,
        sessions,
        evidence=float(np.exp(min(highest[-1], 700.0))),
        against=("base rate", "backtest")[test],
        since=table.days[at] if len(alarms) else None,
        begun=table.days[(base, backtest)[test].begun[at]],
        saved=float(table.saved[table.has_outcome].mean()),
        floor=float(np.nanmean(table.floor)) if np.isfinite(table.floor).any() else math.nan,
        is_simulated=is_simulated,
    )


def measure_floor(test_rows: pd.DataFrame, model: str, base_rate: str, output: Output) -> float:
    """Return what a backtest promises at least: the lower end of the 95% interval of the log loss saved per session.

    Mean over sessions of the means over their rows, against the base rate of the training; blocks of whole sessions are
    resampled (`pipeline.statistics.bootstrap`). NaN where there are too few sessions, or one of the two is not there.

    Args:
        test_rows: model, as_of, symbol, horizon, target, p_up, outcome of the backtest.
        model: The model's name.
        base_rate: The name of the base rate among the models.
        output: Which output.
    """
    rows = select_output(test_rows, output)
    rows = rows[rows["outcome"].notna()]
    key = ["as_of", "symbol"]
    own, base = (rows[rows["model"] == name].set_index(key)["p_up"] for name in (model, base_rate))
    outcome = rows[rows["model"] == model].set_index(key)["outcome"]
    both = pd.DataFrame({"p": own, "b": base, "y": outcome}).dropna()
    saved = _log_ratio(both["p"].to_numpy(), both["b"].to_numpy(), both["y"].to_numpy())
    by_session = np.asarray(
        pd.Series(saved, index=both.index).groupby(level="as_of").mean(), dtype=np.float64
    )
    drawn = bootstrap.resample_sessions(by_session, horizon=output.horizon, draws=1000, seed=0)
    return bootstrap.percentile_interval(drawn @ by_session / max(len(by_session), 1))[0]


def _log_ratio(p: Floats, b: Floats, outcome: Floats) -> Floats:
    """Return log p(outcome) - log b(outcome), both clipped; NaN without an outcome."""
    p, b = (np.clip(each, _CLIP, 1 - _CLIP) for each in (p, b))
    up, down = np.log(p / b), np.log((1 - p) / (1 - b))
    found: Floats = np.where(np.isnan(outcome), np.nan, np.where(outcome == 1, up, down))
    return found


def _sum_sessions(rows: pd.DataFrame, floors: Mapping[str, float]) -> _Sessions:
    """Return the live sessions up to the last one with an outcome."""
    day, days = pd.factorize(rows["as_of"], sort=True)
    number = max(len(days), 1)

    def mean(values: Floats) -> Floats:
        found: Floats = np.bincount(day, weights=values, minlength=number) / np.bincount(
            day, minlength=number
        ).clip(1)
        return found

    p, b = rows["p_up"].to_numpy(float), rows["baseline_p_up"].to_numpy(float)
    outcome = rows["outcome"].to_numpy(float)
    saved, is_settled = _log_ratio(p, b, outcome), np.isfinite(outcome)
    most = np.maximum(_log_ratio(p, b, np.ones_like(p)), _log_ratio(p, b, np.zeros_like(p)))
    floor = rows["model_version"].map(floors).to_numpy(float)
    has_floor = np.isfinite(floor)
    known = np.where(has_floor, floor, 0.0)
    has_outcome = mean(is_settled.astype(float))[: len(days)] > 0
    kept = slice(0, int(np.flatnonzero(has_outcome)[-1]) + 1 if has_outcome.any() else 0)
    return _Sessions(
        has_outcome=has_outcome[kept],
        days=pd.DatetimeIndex(days)[kept],
        saved=mean(np.where(is_settled, saved, 0.0))[kept],
        behind=mean(np.where(is_settled & has_floor, known - saved, 0.0))[kept],
        most=mean(most)[kept],
        most_behind=mean(np.where(has_floor, np.maximum(most - known, 0.0), 0.0))[kept],
        floor=np.where(mean(has_floor.astype(float)) > 0, mean(known), np.nan)[kept],
    )
