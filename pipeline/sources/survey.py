"""A first look at the prices of a source: which symbols, from when to when, with which opens and volumes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from pipeline.sources import Fetched, Outcome, PriceSource

__all__ = ["Survey", "survey"]

_EARLIEST, _LATEST = pd.Timestamp("1900-01-01"), pd.Timedelta(days=1)

_STALE_OPENS = 0.2
"""Share of opens that repeat the close before, above which a source does not report real ones."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What a source holds.

    Attributes:
        tables: BAR_COLUMNS of each symbol with prices.
        answers: The answers of these symbols.
        faults: Why another symbol has none: its outcome and the reason.
    """

    tables: Mapping[str, pd.DataFrame]
    answers: Mapping[str, Fetched]
    faults: Mapping[str, tuple[Outcome, str]]

    @property
    def days(self) -> dict[str, pd.DatetimeIndex]:
        """The days with a bar by symbol."""
        return {symbol: pd.DatetimeIndex(bars["session"].unique()) for symbol, bars in self.tables.items()}

    def sessions_of(self, symbols: Iterable[str]) -> pd.DatetimeIndex:
        """Return all days on which one of the symbols has a bar."""
        days = self.days
        return pd.DatetimeIndex(np.unique(np.concatenate([days[symbol] for symbol in symbols])))

    @property
    def notes(self) -> list[str]:
        """How the source was read, and what of it was not."""
        return [*dict.fromkeys(note for answer in self.answers.values() for note in answer.notes)]

    @property
    def without_volume(self) -> list[str]:
        """The symbols without any volume."""
        return [symbol for symbol, bars in self.tables.items() if not (bars["volume"].fillna(0) > 0).any()]

    @property
    def without_opens(self) -> list[str]:
        """The symbols whose opens repeat the close before too often to be those of an exchange."""
        return [symbol for symbol, bars in self.tables.items() if _share_of_stale_opens(bars) > _STALE_OPENS]


def survey(
    source: PriceSource,
    symbols: Iterable[str],
    now: datetime,
    advance: Callable[[str], None] = lambda symbol: None,
) -> Survey:
    """Ask a source for the whole history of some symbols.

    Args:
        source: The source.
        symbols: Which; after a refused request the others are not asked for.
        now: The clock; bars after it are left out.
        advance: Called with each symbol before it is asked for.

    Raises:
        InputError: the source cannot be read at all.
    """
    until = pd.Timestamp(now).tz_convert(None).normalize()
    tables, answers, faults = (
        dict[str, pd.DataFrame](),
        dict[str, Fetched](),
        dict[str, tuple[Outcome, str]](),
    )
    for symbol in symbols:
        advance(symbol)
        answer = source.fetch(symbol, _EARLIEST, until, now)
        bars = answer.bars[answer.bars["session"] <= until + _LATEST]
        if answer.outcome == "ok" and len(bars):
            tables[symbol], answers[symbol] = bars, answer
        else:
            faults[symbol] = (answer.outcome, answer.reason)
        if answer.outcome == "rate_limited":
            break
    return Survey(tables, answers, faults)


def _share_of_stale_opens(bars: pd.DataFrame) -> float:
    return (
        float((bars["open"].iloc[1:].to_numpy() == bars["close"].iloc[:-1].to_numpy()).mean())
        if len(bars) > 1
        else 0.0
    )
