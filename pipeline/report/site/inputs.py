"""What a site is made of: tonight's report, and what the workspace holds beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import pandas as pd

from pipeline.monitoring.acceptance import Acceptance
from pipeline.prices.bar_block import Block
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.report.evening_report import Report
from pipeline.tracking.challengers import Promotion

__all__ = ["EVENTS", "SHOWN", "SiteInputs", "list_listings", "name_listings"]

SHOWN: Final = 252
"""Sessions on a symbol's chart: about a year of trading."""

EVENTS: Final = ["at", "symbol", "event", "rule", "evidence"]
"""The columns of quarantine events."""


@dataclass(frozen=True, eq=False)
class SiteInputs:
    """What a site is made of.

    Attributes:
        report: Tonight's report.
        prices: The bars of the last SHOWN sessions up to `report.as_of`, as known tonight; of every listing with a page
            (see `list_listings`).
        sessions: All sessions of the calendar.
        weekdays: The days of the week with sessions as a rule, Monday is 0.
        current: The current symbol of each symbol that was renamed.
        undated: Entries of the constituent list without dates.
        listed: All entries of that list.
        left_out: Listings with forecasts in the record that are no constituents tonight.
        promotions: Every change of champion, oldest first.
        acceptances: Who accepted which alarm, oldest first.
        quarantined: The listings in quarantine tonight, by symbol.
        quarantine: All quarantine events, oldest first: at, symbol, event, rule, evidence.
        dated: The names of the evenings' folders that hold a report.
        backtest: The link to the newest backtest's page; empty without one.
        is_rebuilt: Whether this is no nightly run: what the price checks found is not known then.
    """

    report: Report
    prices: Block
    sessions: pd.DatetimeIndex
    weekdays: frozenset[int]
    current: Mapping[str, str]
    undated: int
    listed: int
    left_out: int
    promotions: Sequence[Promotion] = ()
    acceptances: Sequence[Acceptance] = ()
    quarantined: Mapping[str, QuarantineEntry] = field(default_factory=dict)
    quarantine: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=EVENTS))
    dated: Sequence[str] = ()
    backtest: str = ""
    is_rebuilt: bool = False

    @cached_property
    def listing(self) -> "pd.Series[str]":
        """The current symbol of each row of the record."""
        return name_listings(self.report.record, self.current)

    @property
    def symbols(self) -> list[str]:
        """The listings with a page, in order."""
        return self.prices.symbols


def name_listings(record: pd.DataFrame, current: Mapping[str, str]) -> "pd.Series[str]":
    """Return the current symbol of each row of the record."""
    symbols = record["symbol"]
    return symbols.map({each: current.get(each, each) for each in symbols.unique()}).astype("str")


def list_listings(report: Report, current: Mapping[str, str]) -> list[str]:
    """Return the listings with a page: those with a sealed forecast, and the constituents without one."""
    return sorted({*name_listings(report.record, current).unique(), *report.skipped["symbol"]})
