"""What context series brought: the same procedure with and without them, on the sessions before the test."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import pandas as pd

from pipeline.evaluation.verdict import judge
from pipeline.formatting import format_alike
from pipeline.schema import FORECAST_KEY

__all__ = ["ContextGain", "measure_gain"]

_WITH, _WITHOUT = "with", "without"


@dataclass(frozen=True)
class ContextGain:
    """The log loss that context series saved on the validation sessions, those of early stopping and calibration.

    Attributes:
        symbols: The series.
        first, last: The sessions from whose closes the first and the last forecast was made, as text.
        sessions, n: How many sessions, and forecasts with an outcome.
        difference: Log loss without them less that with them, mean over sessions of the sessions' means; positive: they
            helped. NaN without rows, as are the next three.
        low, high: Its 95% interval.
        p_value: Diebold and Mariano's.
    """

    symbols: tuple[str, ...]
    first: str
    last: str
    sessions: int
    n: int
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def sentence(self) -> str:
        """What they brought, in plain words."""
        named = f"Context ({', '.join(self.symbols)})"
        if math.isnan(self.difference):
            return f"{named}: no validation forecast has an outcome, so nothing is known of what it brought."
        difference, low, high = format_alike(self.difference, self.low, self.high)
        interval = "" if math.isnan(self.low) else f" [{low}, {high}]"
        return (
            f"{named}: {difference}{interval} log loss saved per session by the model with it against the same model "
            f"without, {self.conclusion} (n = {self.n:,} over {self.sessions:,} validation sessions, {self.first} to "
            f"{self.last}, on which both were stopped and calibrated)."
        )

    @property
    def conclusion(self) -> str:
        """Whether the difference is more than chance."""
        if not self.p_value < 0.05 or not (self.low > 0 or self.high < 0):
            return "no difference beyond chance"
        return "better with it" if self.difference > 0 else "worse with it"

    def to_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return that of `to_json`.

        Raises:
            TypeError: a key is missing or unknown.
        """
        return cls(**{**facts, "symbols": tuple(facts["symbols"])})


def measure_gain(
    own: pd.DataFrame, without: pd.DataFrame, symbols: Sequence[str], *, seed: int
) -> ContextGain:
    """Compare the forecasts of two fits of one output on the same rows.

    Args:
        own: The key of a forecast, p_up and outcome, of the fit with the series.
        without: The key and p_up, of the fit without; rows of one alone are left out.
        symbols: The series.
        seed: Of the bootstrap.
    """
    both = own.merge(without, on=FORECAST_KEY, suffixes=("", "_without"))
    both = both[both["outcome"].notna()]
    if both.empty:
        return ContextGain(tuple(symbols), "", "", 0, 0, math.nan, math.nan, math.nan, math.nan)
    rows = both[[*FORECAST_KEY, "outcome"]]
    paired = pd.concat(
        [
            rows.assign(model=_WITH, p_up=both["p_up"]),
            rows.assign(model=_WITHOUT, p_up=both["p_up_without"]),
        ],
        ignore_index=True,
    )
    found = judge(paired, model=_WITH, baseline=_WITHOUT, seed=seed)
    return ContextGain(
        symbols=tuple(symbols),
        first=f"{both['as_of'].min():%Y-%m-%d}",
        last=f"{both['as_of'].max():%Y-%m-%d}",
        sessions=found.sessions,
        n=found.n,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
    )
