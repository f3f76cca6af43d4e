"""What is read from Yahoo's responses: events, refusals, pages. The responses are made up in the shape of real ones."""

import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from yfinance.exceptions import YFPricesMissingError

from pipeline.sources.yahoo_answers import Action, Answer, explain_failure, read_response

MARCH_6, MARCH_14 = (
    int(pd.Timestamp(f"2024-03-{day} 09:30", tz="America/New_York").timestamp()) for day in ("06", 14)
)
DAY_6, DAY_14 = pd.Timestamp("2024-03-06"), pd.Timestamp("2024-03-14")
META = {
    "symbol": "AAA",
    "currency": "USD",
    "instrumentType": "ETF",
    "exchangeTimezoneName": "America/New_York",
}


def response(
    text: str, status: int = 200, url: str = "https://query2.finance.yahoo.com/v8/finance/chart/AAA"
) -> Any:
    return SimpleNamespace(
        status_code=status, content=text.encode(), text=text, url=url, json=lambda: json.loads(text)
    )


def chart(events: Any, meta: dict[str, Any] | None = None) -> Any:
    result = {"meta": META if meta is None else meta, "events": events}
    return response(json.dumps({"chart": {"result": [result], "error": None}}))


def details(answer: Answer) -> list[str]:
    return [fault.detail for fault in answer.faults]


def dividend(amount: Any, date: Any = MARCH_14, **more: Any) -> dict[str, Any]:
    return {str(date): {"amount": amount, "date": date, **more}}


def split(numerator: Any, denominator: Any, date: Any = MARCH_6) -> dict[str, Any]:
    return {str(date): {"numerator": numerator, "denominator": denominator, "date": date}}


GOOD = {"dividends": dividend(0.1), "splits": split(2, 1, MARCH_14)}


def test_splits_dividends_and_gains_are_read_by_the_exchanges_day() -> None:
    answer = read_response(chart(GOOD | {"capitalGains": dividend(0.05, currency="USD")}))
    assert answer.actions == {DAY_14: Action(dividend=0.1, split=2.0, gain=0.05)}
    assert (answer.faults, answer.symbol, answer.kind) == ((), "AAA", "ETF")


@pytest.mark.parametrize(
    ("kind", "bad", "said"),
    [
        ("splits", split(1, 0), "the split 1:0 is not read"),
        ("splits", split(None, 2), "the split null:2 is not read"),
        ("splits", split(-1, 3), "the split -1:3 is not read"),
        ("splits", split(float("inf"), 1), "the split inf:1 is not read"),
        (
            "dividends",
            dividend(None, MARCH_6),
            "the dividend of null is not read: it must be a number, zero or more",
        ),
        ("dividends", dividend("n/a", MARCH_6), "the dividend of n/a is not read"),
        ("dividends", dividend(-0.3, MARCH_6), "the dividend of -0.3 is not read"),
        ("capitalGains", dividend([], MARCH_6), "the capital gain of [] is not read"),
    ],
)
def test_a_bad_event_loses_only_itself_and_is_named(kind: str, bad: dict[str, Any], said: str) -> None:
    answer = read_response(chart(GOOD | {kind: bad | GOOD.get(kind, {})}))
    assert answer.actions[DAY_14] == Action(dividend=0.1, split=2.0)
    (fault,) = answer.faults
    assert (fault.day, fault.rule) == (DAY_6, "action not read")
    assert said in fault.detail


@pytest.mark.parametrize("date", [None, "soon", 10**30])
def test_an_event_without_a_day_is_named_without_one(date: Any) -> None:
    answer = read_response(chart({"dividends": dividend(0.2, date)}))
    assert answer.actions == {}
    assert [fault.day for fault in answer.faults] == [None]
    assert details(answer) == ["the dividend of 0.2 is not read: it has no date"]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (
            {"dividends": None, "splits": split(2, 1)},
            ["Yahoo's list of dividends is null: none of them is read"],
        ),
        ({"dividends": [None], "splits": split(2, 1)}, ["the dividend of null is not read: it has no date"]),
        ({"splits": list(split(2, 1).values())}, []),
    ],
)
def test_a_list_of_events_in_another_form_costs_no_other_event(events: Any, said: list[str]) -> None:
    answer = read_response(chart(events))
    assert answer.actions == {DAY_6: Action(split=2.0)}
    assert details(answer) == said


@pytest.mark.parametrize(("events", "faults"), [(None, 0), ({}, 0), ("none", 1), ([1], 1)])
def test_no_events_are_no_fault_and_a_text_is_one(events: Any, faults: int) -> None:
    answer = read_response(chart(events))
    assert (answer.actions, len(answer.faults)) == ({}, faults)


def test_cash_in_another_currency_is_taken_and_named() -> None:
    answer = read_response(chart({"dividends": dividend(0.5, currency="EUR")}))
    assert answer.actions[DAY_14].dividend == 0.5
    assert details(answer) == ["the dividend 0.5 is listed in EUR, the prices in USD; it is taken as listed"]


def test_what_yfinance_reads_has_no_events() -> None:
    found = chart({"splits": split(1, 0)})
    read_response(found)
    assert found.json()["chart"]["result"][0] == {"meta": META}


CRUMB = {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}


@pytest.mark.parametrize(
    ("text", "status", "outcome", "said"),
    [
        (
            json.dumps({"finance": CRUMB}),
            401,
            "transient",
            "refused access (401 Unauthorized: Invalid Crumb)",
        ),
        (
            json.dumps({"finance": CRUMB}),
            200,
            "transient",
            "refused access (401 Unauthorized: Invalid Crumb)",
        ),
        (json.dumps({"chart": CRUMB}), 401, "transient", "Invalid Crumb"),
        ("<html>Bad Gateway</html>", 502, "transient", "out of order (502: Bad Gateway)"),
        (
            "<html><style>p {}</style><p>Will be right back...</p>",
            200,
            "transient",
            "order: Will be right back...",
        ),
        (
            "<html><script>x()</script>Sign&nbsp;in</html>",
            200,
            "transient",
            "a page instead of prices: Sign in",
        ),
        ("", 200, "transient", "a page instead of prices"),
        ("upstream connect error", 200, "transient", "upstream connect error"),
        ("Not a page", 404, "bad_payload", "refused the request (404: Not a page)"),
        ('{"chart": ', 200, "bad_payload", 'no valid JSON: {"chart":'),
        ("[]", 200, "bad_payload", "does not have the expected form"),
        ('{"chart": {"result": [{"meta": null}]}}', 200, "bad_payload", "does not have the expected form"),
    ],
)
def test_each_refusal_is_told_in_yahoos_words(text: str, status: int, outcome: str, said: str) -> None:
    answer = read_response(response(text, status))
    found, reason = explain_failure(answer, TypeError("'NoneType' object has no attribute 'values'"))
    assert found == outcome
    assert said in reason
    assert "NoneType" not in reason


@pytest.mark.parametrize(
    ("text", "status", "counts"),
    [
        ("Request denied", 999, 999),
        ("Edge: Too Many Requests", 200, 429),
        ('{"finance": {"error": {"code": "Too Many Requests"}}}', 200, 429),
        ("Too Many Requests", 429, 429),
    ],
)
def test_a_limit_is_one_whatever_its_status(text: str, status: int, counts: int) -> None:
    answer = read_response(response(text, status))
    assert (answer.is_limited, answer.status) == (True, counts)


def test_a_consent_page_that_stays_is_named() -> None:
    page = response("<form>Agree</form>", url="https://consent.yahoo.com/v2/collectConsent?sessionId=s")
    assert explain_failure(read_response(page), ValueError("no JSON")) == (
        "transient",
        "Yahoo asks for consent to its cookies, and sent no prices after it was given",
    )


def test_what_is_missing_in_an_answer_is_named() -> None:
    answer = read_response(chart({}, {"symbol": "AAA"}))
    assert explain_failure(answer, KeyError("currency"))[1].endswith("the expected form: it lacks 'currency'")


def test_yahoos_reason_for_no_bar_is_passed_on() -> None:
    error = YFPricesMissingError("AAA", "", yahoo_reason="Data doesn't exist for startDate")
    answer = read_response(response("{}", 400))
    assert explain_failure(answer, error) == (
        "empty",
        "Yahoo has no bar in the requested sessions: Data doesn't exist for startDate",
    )
