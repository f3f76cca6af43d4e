"""A source that is down is asked a few times, then no more; one that is back is asked for the rest."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flows.prices import fetch
from flows.runtime import tasks
from pipeline.prices.ingest.fetch_plan import FetchRequest
from pipeline.sources import Fetched, Outcome

NOW = datetime(2024, 4, 1, tzinfo=UTC)
DAY = pd.Timestamp("2024-03-28")
SYMBOLS = [f"S{number:02}" for number in range(40)]
Rule = Callable[[str, int], tuple[Outcome, str]]


class Source:
    """Answers by a rule (symbol, number of requests before); one thread, so that the counts are exact."""

    name, historical, threads = "made", False, 1

    def __init__(self, rule: Rule, is_local: bool = False) -> None:
        self.rule, self.is_local, self.asked = rule, is_local, list[str]()

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        outcome, reason = self.rule(symbol, len(self.asked))
        self.asked.append(symbol)
        return Fetched(symbol, outcome, now, reason=reason)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.time, "sleep", lambda seconds: None)


def fetched(source: Source, symbols: list[str] = SYMBOLS) -> dict[str, Fetched]:
    run: Any = SimpleNamespace(
        source=source,
        now=NOW,
        clock=lambda: NOW,
        last_closed=DAY,
        universe=SimpleNamespace(symbols=symbols),
        is_context=False,
    )
    return fetch.fetch_all(run, dict.fromkeys(symbols, FetchRequest(DAY, is_whole=True)))


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("transient", "Yahoo is out of order: Will be right back..."),
        ("transient", "Yahoo refused access (401 Unauthorized: Invalid Crumb)"),
        ("bad_payload", "Yahoo's answer is no valid JSON: {'no': json"),
    ],
)
def test_a_few_alike_failures_end_the_asking(outcome: Outcome, reason: str) -> None:
    source = Source(lambda symbol, before: (outcome, reason))
    answers = fetched(source)
    # Three at first, then one alone on each of three retries; the second chunk is not tried.
    assert len(source.asked) == 6
    assert Counter(answer.reason for answer in answers.values())["not fetched: the source was down"] > 30
    assert set(answers) == set(SYMBOLS)


def test_failures_that_differ_are_the_symbols_own() -> None:
    source = Source(lambda symbol, before: ("bad_payload", f"the row of {symbol} is no number"))
    assert {answer.outcome for answer in fetched(source).values()} == {"bad_payload"}
    assert source.asked == SYMBOLS


def test_unreadable_local_files_cost_no_others() -> None:
    source = Source(lambda symbol, before: ("bad_payload", "the bars lack close"), is_local=True)
    fetched(source)
    assert source.asked == SYMBOLS


def test_a_source_that_is_back_is_asked_for_everything() -> None:
    source = Source(lambda symbol, before: ("transient", "down") if before < 4 else ("ok", ""))
    answers = fetched(source)
    assert {answer.outcome for answer in answers.values()} == {"ok"}


def test_symbols_that_always_fail_alike_block_no_others() -> None:
    def rule(symbol: str, before: int) -> tuple[Outcome, str]:
        return ("transient", "time-out") if symbol < "S05" else ("ok", "")

    outcomes = {symbol: answer.outcome for symbol, answer in fetched(Source(rule)).items()}
    assert [symbol for symbol in SYMBOLS if outcomes[symbol] != "ok"] == SYMBOLS[:5]
