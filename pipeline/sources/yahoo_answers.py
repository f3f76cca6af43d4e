"""What Yahoo's response to a request for prices says: listed splits and dividends, a refusal, a page instead of prices.

yfinance loses the whole answer where one listed event is broken, so events are read here, one by one, and yfinance gets
the response without them.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from yfinance.exceptions import YFPricesMissingError

from pipeline.sources import Outcome

__all__ = ["Action", "Answer", "EventFault", "explain_failure", "read_response"]

_STATUS_OF: Final = {
    "Unauthorized": 401,
    "Forbidden": 403,
    "Too Many Requests": 429,
    "Internal Server Error": 500,
    "Service Unavailable": 503,
}
"""The status that belongs to an error code: Yahoo also sends such errors with the status 200."""

_LIMITED: Final = (429, 999)
"""Statuses by which Yahoo limits or blocks an address; 999 is its own."""

_EVENTS: Final = {"dividends": "dividend", "capitalGains": "capital gain", "splits": "split"}


@dataclass
class Action:
    """The corporate actions that took effect on one date of the exchange."""

    dividend: float = 0.0
    split: float = 1.0
    gain: float = 0.0


@dataclass(frozen=True)
class EventFault:
    """A listed event that is not read, or in doubt; `day` is None where it states no date."""

    day: pd.Timestamp | None
    rule: str
    detail: str


@dataclass(frozen=True)
class Answer:
    """The response to a chart request; one without a status and a failure was never sent.

    Attributes:
        status: The HTTP status, or the one that belongs to Yahoo's error code if that is higher.
        code: Yahoo's error code.
        words: Yahoo's description of the error, or the words of a page instead of prices.
        failure: The name of an exception on the wire.
        is_page: Whether it is a page or another text, not the data interface.
        is_consent: Whether it is the page that asks for consent to cookies.
        symbol, kind: Of the instrument, as stated.
        actions: The listed actions by their own date: yfinance moves those of a missing row to the row before.
        faults: The listed events that are not read, or in doubt.
    """

    status: int = 0
    code: str = ""
    words: str = ""
    failure: str = ""
    is_page: bool = False
    is_consent: bool = False
    symbol: str = ""
    kind: str = ""
    actions: Mapping[pd.Timestamp, Action] = field(default_factory=dict)
    faults: tuple[EventFault, ...] = ()

    @property
    def is_limited(self) -> bool:
        """Whether Yahoo limits or blocks this address."""
        return self.status in _LIMITED

    @property
    def is_final(self) -> bool:
        """Whether new cookies cannot change the answer; yfinance would try some after each error."""
        return self.status == 404 or self.status >= 500

    def __str__(self) -> str:
        """Return status, code and words, as far as there are any."""
        known = [str(self.status) if self.status >= 400 else "", self.code]
        start = " ".join(part for part in known if part)
        return ": ".join(part for part in (start, self.words) if part)


def read_response(response: Any) -> Answer:
    """Read a response to a chart request; afterwards its `json()` has no events."""
    status = int(response.status_code)
    try:
        body = json.loads(response.content)
    except ValueError:
        return _read_page(response, status)
    code, words = _find_error(body)
    status = max(status, _STATUS_OF.get(code, 0))
    result = _find_result(body)
    if result is None:
        return Answer(status, code, words)
    meta = result.get("meta") or {}
    listed = result.pop("events", None)
    response.json = lambda: body
    actions, faults = _read_events(listed, meta)
    return Answer(
        status,
        code,
        words,
        symbol=str(meta.get("symbol") or ""),
        kind=str(meta.get("instrumentType") or ""),
        actions=actions,
        faults=faults,
    )


def explain_failure(answer: Answer, error: Exception) -> tuple[Outcome, str]:
    """Return the outcome and a sentence for the user."""
    if answer == Answer():
        return "bad_payload", f"yfinance failed before it requested prices: {error!s:.200}"
    if answer.failure:
        is_certificate = "Cert" in answer.failure
        hint = "; behind a company's proxy set [prices] proxy and ca_bundle" if is_certificate else ""
        return "transient", f"Yahoo could not be reached ({answer.failure}){hint}"
    if answer.status >= 500:
        return "transient", f"Yahoo is out of order ({answer})"
    if answer.status in (401, 403):
        return "transient", f"Yahoo refused access ({answer})"
    if answer.status == 404 and answer.code == "Not Found":
        return "not_found", "Yahoo knows no such symbol; it may be delisted, renamed or misspelt"
    if isinstance(error, YFPricesMissingError):
        return "empty", "Yahoo has no bar in the requested sessions" + _after_colon(error.yahoo_reason)
    if answer.status >= 400:
        return "bad_payload", f"Yahoo refused the request ({answer})"
    if answer.is_consent:
        return "transient", "Yahoo asks for consent to its cookies, and sent no prices after it was given"
    if answer.is_page and "will be right back" in answer.words.lower():
        return "transient", f"Yahoo is out of order: {answer.words}"
    if answer.is_page:
        return "transient", "Yahoo sent a page instead of prices" + _after_colon(answer.words)
    if answer.words:
        return "bad_payload", f"Yahoo's answer is no valid JSON: {answer.words}"
    missing = f": it lacks {error}" if isinstance(error, KeyError) else ""
    return "bad_payload", f"Yahoo's answer does not have the expected form{missing}"


def _after_colon(words: str | None) -> str:
    return f": {words:.200}" if words else ""


def _read_page(response: Any, status: int) -> Answer:
    """Read a response that is no JSON."""
    text = str(response.text)
    host = urlsplit(response.url).hostname or ""
    shown = _visible_words(text)
    if "too many requests" in shown.lower():
        status = max(status, 429)
    # What begins as data and ends otherwise is a broken answer of the interface itself.
    is_data = text.lstrip().startswith(("{", "["))
    return Answer(status, words=shown, is_page=not is_data, is_consent=host.endswith("consent.yahoo.com"))


def _visible_words(text: str) -> str:
    """Return the first words of a page or text, without its tags and scripts."""
    plain = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    words = " ".join(html.unescape(plain).split())
    return words if len(words) <= 120 else f"{words[:117]}..."


def _find_error(body: Any) -> tuple[str, str]:
    """Return Yahoo's error code and description; of a refusal they are under `finance`, not under `chart`."""
    for part in ("chart", "finance"):
        content = body.get(part) if isinstance(body, dict) else None
        error = content.get("error") if isinstance(content, dict) else None
        if isinstance(error, dict):
            code, description = (str(error.get(name) or "") for name in ("code", "description"))
            return code, "" if description == code else description
    return "", ""


def _find_result(body: Any) -> dict[str, Any] | None:
    try:
        result = body["chart"]["result"][0]
    except (KeyError, TypeError, IndexError):
        return None
    return result if isinstance(result, dict) and isinstance(result.get("meta") or {}, dict) else None


def _read_events(
    listed: Any, meta: Mapping[str, Any]
) -> tuple[dict[pd.Timestamp, Action], tuple[EventFault, ...]]:
    """Return the listed actions by exchange date, and the faults: a bad event loses only itself."""
    actions: dict[pd.Timestamp, Action] = {}
    faults: list[EventFault] = []
    if not isinstance(listed or {}, dict):
        return {}, (EventFault(None, _NOT_READ, f"Yahoo's list of events is {listed!r:.60}"),)
    for name, kind in _EVENTS.items():
        events = (listed or {}).get(name, {})
        if not isinstance(events, dict | list):
            detail = f"Yahoo's list of {kind}s is {_show(events)}: none of them is read"
            faults.append(EventFault(None, _NOT_READ, detail))
            continue
        for event in events.values() if isinstance(events, dict) else events:
            faults += _add_event(actions, kind, event, meta)
    return actions, tuple(faults)


_NOT_READ: Final = "action not read"


def _add_event(
    actions: dict[pd.Timestamp, Action], kind: str, event: Any, meta: Mapping[str, Any]
) -> Iterator[EventFault]:
    """Add one event to `actions`, or yield what is wrong with it."""
    stated = event if isinstance(event, dict) else {}
    day = _find_day(stated.get("date"), meta)
    amount = _find_ratio(stated) if kind == "split" else _find_number(stated.get("amount"))
    is_amount = amount > 0 if kind == "split" else amount >= 0
    if day is None or not is_amount:
        rule = "two numbers above zero" if kind == "split" else "a number, zero or more"
        wrong = "it has no date" if day is None else f"it must be {rule}"
        yield EventFault(day, _NOT_READ, f"the {kind} {_describe_event(kind, stated)} is not read: {wrong}")
        return
    action = actions.setdefault(day, Action())
    if kind == "split":
        action.split *= amount
    elif kind == "dividend":
        action.dividend += amount
    else:
        action.gain += amount
    prices_in, paid_in = meta.get("currency") or "", stated.get("currency") or ""
    if prices_in and paid_in and paid_in != prices_in:
        detail = (
            f"the {kind} {amount:g} is listed in {paid_in}, the prices in {prices_in}; it is taken as listed"
        )
        yield EventFault(day, "action in another currency", detail)


def _find_day(date: Any, meta: Mapping[str, Any]) -> pd.Timestamp | None:
    try:
        day = pd.Timestamp(int(date), unit="s", tz="UTC").tz_convert(meta["exchangeTimezoneName"])
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
    return day.tz_localize(None).normalize()


def _find_number(value: Any) -> float:
    """Return a finite number, NaN where it is none."""
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        return np.nan
    return number if np.isfinite(number) else np.nan


def _find_ratio(event: Mapping[str, Any]) -> float:
    """Return new shares per old share, NaN where one of the two is no number above zero."""
    new, old = (_find_number(event.get(name)) for name in ("numerator", "denominator"))
    return new / old if new > 0 and old > 0 else np.nan


def _describe_event(kind: str, event: Mapping[str, Any]) -> str:
    if kind == "split":
        return f"{_show(event.get('numerator'))}:{_show(event.get('denominator'))}"
    return f"of {_show(event.get('amount'))}"


def _show(value: Any) -> str:
    return "null" if value is None else f"{value!s:.40}"
