"""What the commands answer with --json: one document each, also where they fail."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import Field

from pipeline.outputs import list_outputs
from pipeline.prices.ingest.store_check import PriceFindings
from pipeline.report.backtest_report import Backtest, list_all_numbers
from pipeline.report.documents.evening import Latest
from pipeline.report.documents.parts import (
    Day,
    Document,
    Moment,
    Number,
    Part,
    ScorePart,
    SealedForecast,
    Text,
    VerdictPart,
    list_records,
)

__all__ = [
    "BacktestAnswer",
    "Check",
    "Doctor",
    "Forecast",
    "LedgerRows",
    "PricesCheck",
]


class Forecast(Document):
    """`nextday forecast --json`: the evening, with the paths of its files on this machine."""

    document: Literal["forecast"] = "forecast"
    sealed: int
    settled: int
    files: dict[str, str]
    latest: Latest


class SettledForecast(SealedForecast):
    """A sealed forecast with its outcome: 1 up or above, 0 down or below, null where it is open, void or has no label.

    `void_reason` says why a forecast is void; null for all others.
    """

    outcome: Number
    realized_return: Number
    settled_at: Moment
    median_return: Number
    median_members: Number
    median_basis: Text
    void_reason: Text


class LedgerRows(Document):
    """`nextday ledger show --json`: the champion's rows of the newest sessions."""

    document: Literal["ledger_rows"] = "ledger_rows"
    universe: str
    ledger_head: str = Field(pattern="^[0-9a-f]{64}$")
    rows: list[SettledForecast]

    @classmethod
    def read(cls, universe: str, ledger_head: str, record: pd.DataFrame, last: int) -> Self:
        """Return the document of the newest `last` sessions of a record."""
        newest = sorted(record["as_of"].unique())[-last:]
        shown = record[record["as_of"].isin(newest)]
        named = shown.assign(p_low=shown["low"], p_high=shown["high"])
        rows = [SettledForecast(**row) for row in list_records(named, SettledForecast.model_fields)]
        return cls(universe=universe, ledger_head=ledger_head, rows=rows)


class Check(Part):
    """One check of the installation; `fix` is empty where it passed."""

    passed: bool
    what: str
    fix: str


class Doctor(Document):
    """`nextday doctor --json`: every check; `passed` says whether all of them passed."""

    document: Literal["doctor"] = "doctor"
    passed: bool
    checks: list[Check]


class PriceCoverage(Part):
    """The bars of one symbol: of the sessions expected, how many there are."""

    symbol: str
    first: date
    last: date
    bars: int
    expected: int
    share: Number


class PriceFinding(Part):
    """A finding: the rule, its evidence, and what was done about it, or what a person has to do."""

    symbol: str
    session: Day
    rule: str
    evidence: str
    done: str
    needs_person: bool


class CheckedPrices(Part):
    """The stored prices of the constituents, or of the context series of one calendar."""

    what: Literal["constituents", "context series"]
    calendar: str
    newest: date
    superseded: int
    immaterial: int
    coverage: list[PriceCoverage]
    findings: list[PriceFinding]

    @classmethod
    def read(
        cls, found: PriceFindings, what: Literal["constituents", "context series"], calendar: str
    ) -> Self:
        """Return the part of a check of the store."""
        return cls(
            what=what,
            calendar=calendar,
            newest=found.newest,
            superseded=found.superseded,
            immaterial=found.immaterial,
            coverage=[
                PriceCoverage(**row) for row in list_records(found.coverage, PriceCoverage.model_fields)
            ],
            findings=[PriceFinding(**row) for row in list_records(found.rows, PriceFinding.model_fields)],
        )


class PricesCheck(Document):
    """`nextday prices check --json`: every finding; `needs_person` says whether one of them needs a person."""

    document: Literal["prices_check"] = "prices_check"
    universe: str
    needs_person: bool
    prices: list[CheckedPrices]


class MethodScore(ScorePart):
    """A score of one method on one group of rows of one output."""

    model: str
    group: str
    target: str
    horizon: int


class TradingNumber(Part):
    """One number of the trading view; low and high are null where it has no interval."""

    role: str
    name: str
    metric: str
    value: Number
    low: Number
    high: Number
    sessions: Number
    trades: Number
    target: str
    horizon: int


class BacktestAnswer(Document):
    """`nextday backtest --json`: verdicts, every score and every number of the trading view, and the files."""

    document: Literal["backtest"] = "backtest"
    universe: str
    calendar: str
    as_of: date
    made_at: datetime
    folds: int
    verdicts: list[VerdictPart]
    scores: list[MethodScore]
    trading: list[TradingNumber]
    method: dict[str, str]
    notes: list[str]
    files: dict[str, str]

    @classmethod
    def read(cls, backtest: Backtest, paths: Mapping[str, Path]) -> Self:
        """Return the document of a backtest and of the paths of its files."""
        verdicts = {list_outputs(backtest.test_rows)[0]: backtest.verdict, **backtest.further}
        more = (backtest.tried, backtest.unaudited, backtest.bias)
        return cls(
            universe=backtest.universe,
            calendar=backtest.calendar,
            as_of=backtest.as_of,
            made_at=backtest.made_at,
            folds=backtest.folds,
            verdicts=[VerdictPart.read(verdict, output) for output, verdict in verdicts.items()],
            scores=MethodScore.read(backtest.scores),
            trading=[
                TradingNumber(**row)
                for row in list_records(list_all_numbers(backtest), TradingNumber.model_fields)
            ],
            method=dict(backtest.method),
            notes=[*backtest.notes, *_said(more)],
            files={name: str(path) for name, path in paths.items()},
        )


def _said(sentences: Iterable[str]) -> list[str]:
    return [sentence for sentence in sentences if sentence]
