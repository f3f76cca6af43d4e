"""The JSON documents of the commands: made of what the terminal would show."""

from typing import TYPE_CHECKING

from flows.cli.publishing.json_output import print_document
from pipeline.report.documents.answers import (
    BacktestAnswer,
    Check,
    CheckedPrices,
    Doctor,
    Forecast,
    LedgerRows,
    PricesCheck,
)
from pipeline.report.documents.evening import Latest
from pipeline.report.files import list_rows

if TYPE_CHECKING:
    from flows.backtest import Backtested
    from flows.nightly import Evening
    from flows.operations.health import HealthCheck
    from pipeline.ledger.ledger import Ledger

__all__ = ["answer_backtest", "answer_evening", "answer_health", "answer_prices_check", "answer_record"]


def answer_evening(evening: "Evening") -> None:
    """Print the document of a nightly run."""
    paths, report = evening.paths, evening.report
    names = ("forecast_csv", "scores_csv", "html", "latest_csv", "latest_json", "record_json")
    document = Forecast(
        sealed=evening.new_rows,
        settled=evening.settled,
        files={name: str(getattr(paths, name)) for name in names},
        latest=Latest.read(report, list_rows(report)),
    )
    print_document(document.to_text())


def answer_backtest(backtested: "Backtested") -> None:
    """Print the document of a backtest."""
    print_document(BacktestAnswer.read(backtested.backtest, backtested.paths).to_text())


def answer_health(checks: "list[HealthCheck]") -> None:
    """Print the document of the checks of an installation."""
    found = [
        Check(passed=each.is_passed, what=each.what, fix="" if each.is_passed else each.fix)
        for each in checks
    ]
    print_document(Doctor(passed=all(each.passed for each in found), checks=found).to_text())


def answer_record(ledger: "Ledger", universe: str, last: int) -> None:
    """Print the document of the newest sealed rows."""
    record = ledger.universe_record(universe)
    print_document(LedgerRows.read(universe, record.head.hash, record.rows, last).to_text())


def answer_prices_check(universe: str, prices: list[CheckedPrices], *, needs_person: bool) -> None:
    """Print the document of a check of the stored prices."""
    print_document(PricesCheck(universe=universe, needs_person=needs_person, prices=prices).to_text())
