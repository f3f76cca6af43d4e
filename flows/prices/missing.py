"""Why constituents have no bar of tonight, and the errors where too many have none."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from flows.prices.fetch import Answers
from flows.runtime.context import Run
from pipeline.errors import InputError, SourceError
from pipeline.formatting import count
from pipeline.market.exchanges import suggest_calendar
from pipeline.market.universe import MIN_COVERAGE
from pipeline.prices.ingest.listing_status import find_listings, recent_bars
from pipeline.prices.ingest.quality import WRONG_CALENDAR, is_refusal
from pipeline.prices.recent_bars import RecentBars
from pipeline.storage.paths import expand

__all__ = [
    "Reasons",
    "ended_prices_error",
    "explain_missing",
    "no_prices_error",
    "stale_prices_error",
    "summarize_findings",
]

_MOST = 5
"""Symbols and rules that an error names."""

_FAILED = ("transient", "rate_limited", "bad_payload", WRONG_CALENDAR)
_SILENT = ("no bar on", "empty")
_GONE = ("suspended", "delisted")

_ENDED = 10
"""Sessions without a bar of any member after which the prices of a file or of custom code count as ended."""


@dataclass(frozen=True)
class Reasons:
    """What is known about bars that are missing tonight.

    Attributes:
        by_symbol: Why a symbol may have no bar, for each symbol with a reason.
        was_open: Whether an answer has a row of the last closed session: then the exchange was open.
        calendars: The calendar of each symbol that trades on another exchange; None where none is known.
    """

    by_symbol: Mapping[str, str] = field(default_factory=dict)
    was_open: bool = False
    calendars: Mapping[str, str | None] = field(default_factory=dict)


def explain_missing(run: Run, answers: Answers, findings: pd.DataFrame, stored: RecentBars) -> Reasons:
    """Return why symbols may have no bar tonight: the most serious reason of each.

    Args:
        run: The run.
        answers: Tonight's answers, by symbol.
        findings: What the checks of these answers found.
        stored: The newest stored sessions, tonight's included.
    """
    symbols, quarantine = run.universe.symbols, run.fetch_log.quarantined()
    last = _last_expected(run, stored)
    bars = recent_bars(stored, run.calendar, symbols, last)
    listings = find_listings(bars, run.fetch_log, run.calendar, symbols, last)
    by_state = {
        state: {s: f"{state}: {each.evidence}" for s, each in listings.items() if each.state == state}
        for state in ("suspended", "delisted")
    }
    unanswered = {s: f"{a.outcome}: {a.reason}" for s, a in answers.items() if a.outcome != "ok"}
    instruments = run.universe.instruments
    held = {s: quarantine[instruments[s]] for s in symbols if instruments[s] in quarantine}
    in_quarantine = {
        s: f"quarantine since {entry.since:%Y-%m-%d}: {entry.rule}: {entry.evidence}"
        for s, entry in held.items()
    }
    abroad = findings[findings["rule"] == WRONG_CALENDAR]
    return Reasons(
        by_state["suspended"]
        | unanswered
        | by_state["delisted"]
        | _refused(findings, run.last_closed)
        | {
            str(s): f"{WRONG_CALENDAR}: {detail}"
            for s, detail in zip(abroad["symbol"], abroad["detail"], strict=True)
        }
        | in_quarantine,
        was_open=any((a.bars["session"] == run.last_closed).any() for a in answers.values()),
        calendars={s: suggest_calendar(answers[s].timezone, s) for s in abroad["symbol"]},
    )


def _last_expected(run: Run, stored: RecentBars) -> pd.Timestamp:
    """Return the last session of which a bar can be expected; a historical source ends where it ends."""
    sessions, last = run.calendar.sessions, run.last_closed
    newest = stored.latest("session", last, symbols=run.universe.symbols) if run.is_historical else None
    return last if newest is None else sessions[max(int(sessions.searchsorted(newest, "right")) - 1, 0)]


def _refused(findings: pd.DataFrame, session: pd.Timestamp) -> dict[str, str]:
    """Return, by symbol, why the checks dropped its row of a session."""
    tonight = findings[(findings["session"] == session) & is_refusal(findings["rule"])]
    why = tonight.groupby(["symbol", "detail"], sort=False)["rule"].agg("; ".join).reset_index()
    each = (why["rule"] + ": " + why["detail"]).groupby(why["symbol"]).agg("; ".join)
    return {
        str(symbol): f"the row of {session:%Y-%m-%d} is refused: {reasons}"
        for symbol, reasons in each.items()
    }


def summarize_findings(findings: pd.DataFrame) -> list[str]:
    """Return a line per rule, the most frequent first: how often it was broken, and an example."""
    lines = []
    for rule, often in findings.groupby("rule").size().sort_values(ascending=False).items():
        first = findings[findings["rule"] == rule].iloc[0]
        lines.append(
            f"{often:>5}  {rule}   e.g. {first['symbol']} {first['session']:%Y-%m-%d}: {first['detail']}"
        )
    return lines


def no_prices_error(run: Run, reasons: Reasons, findings: pd.DataFrame) -> InputError | SourceError:
    """Return the error for a universe of which nothing is stored."""
    what = f"There is no usable price of any of the {len(run.universe.symbols)} symbols of {run.name!r}"
    where = f"source {run.source.name}" + _list_evidence(reasons.by_symbol, findings)
    if run.source.is_local and not reasons.calendars:
        fix = "correct the prices, or [universe] and [prices] start"
        if run.source.name == "sample":
            fix = 'to use your own symbols, set [universe] source = "yahoo" or "files"'
        return InputError(what, where=where, fix=fix)
    fix = _suggest_fix(reasons.by_symbol, reasons.calendars)
    if set(reasons.calendars) >= set(run.universe.symbols):
        return InputError(what, where=where, fix=fix)
    return SourceError(what, where=where, fix="; ".join(filter(None, ["`nextday update` tries again", fix])))


def stale_prices_error(
    run: Run,
    as_of: pd.Timestamp,
    missing: Mapping[str, str],
    members: int,
    reasons: Reasons,
    findings: pd.DataFrame,
) -> SourceError:
    """Return the error for prices that end before the last closed session."""
    texts = [*missing.values()]
    is_silent = (
        len(missing) == members
        and not reasons.was_open
        and not any(text.startswith(_FAILED) for text in texts)
        and any(text.startswith(_SILENT) for text in texts)
    )
    closed = "if the exchange was closed, write the day into [universe] closures" if is_silent else ""
    fix = ["run again later: the missed session is caught up, its rows flagged late", closed]
    return SourceError(
        f"The prices are stale: {len(missing)} of {members} constituents have no bar on {as_of:%Y-%m-%d}, the last "
        f"session that closed; below {MIN_COVERAGE:.0%} coverage nothing is forecast",
        where=f"source {run.source.name}" + _list_evidence(missing, findings),
        fix="; ".join(
            filter(None, [*fix, _suggest_fix(missing, reasons.calendars, others=len(missing) < members)])
        ),
    )


def ended_prices_error(
    run: Run, as_of: pd.Timestamp, newest: pd.Timestamp, missing: Mapping[str, str]
) -> InputError | None:
    """Return the error for prices that ended long ago, for all members alike; None where that is not what happened.

    Args:
        run: The run.
        as_of: The last session that closed.
        newest: The newest session with a bar.
        missing: Why each member without a bar of `as_of` has none.
    """
    behind = len(run.calendar.sessions_between(newest, as_of)) - 1
    is_quiet = all(reason.startswith((*_GONE, *_SILENT)) for reason in missing.values())
    if run.source.name == "yahoo" or behind < _ENDED or not is_quiet:
        return None
    is_file = run.source.name == "files"
    path = run.base / expand(run.config.universe.path)
    return InputError(
        f"Your {'file ends' if is_file else 'prices end'} {newest:%Y-%m-%d}: no constituent has a bar of the "
        f"{count(behind, 'session')} since, through {as_of:%Y-%m-%d}",
        where=str(path) if is_file else f"source {run.source.name}",
        fix="on purpose: [universe] historical = true, and the forecasts are made from its last session, late and "
        "never live; else add the newer bars",
    )


def _list_evidence(reasons: Mapping[str, str], findings: pd.DataFrame) -> str:
    """Return lines below `where`: the reasons of the first symbols, and what the checks found."""
    lines = [f"{symbol}: {reason}" for symbol, reason in reasons.items()]
    found = summarize_findings(findings[findings["rule"] != WRONG_CALENDAR])
    if found:
        found.insert(0, f"{count(len(findings), 'finding')}:")
    return "".join(f"\n           {line}" for line in [*_first(lines), *_first(found)])


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST
    return lines if more <= 0 else [*lines[:_MOST], f"and {more:,} more"]


def _suggest_fix(
    reasons: Mapping[str, str], calendars: Mapping[str, str | None], *, others: bool = False
) -> str:
    """Return the fix for symbols that will not get a bar without a person; empty where there are none.

    `others`: whether other symbols trade on the configured calendar.
    """
    gone = any(reason.startswith(_GONE) for reason in reasons.values())
    held = any(reason.startswith("quarantine") for reason in reasons.values())
    parts = [
        _suggest_calendars(calendars, others) if calendars else "",
        "end the membership of suspended or delisted symbols (column to)" if gone else "",
        "`nextday prices quarantine list` lists the quarantine" if held else "",
    ]
    return "; ".join(filter(None, parts))


def _suggest_calendars(calendars: Mapping[str, str | None], others: bool) -> str:
    """Return which calendar to set; several exchanges need a configuration each."""
    symbols = dict[str | None, list[str]]()
    for symbol, name in calendars.items():
        symbols.setdefault(name, []).append(symbol)
    unknown = symbols.pop(None, [])
    parts = [f"remove {unknown[0]}: nextday knows no calendar of its exchange"] if unknown else []
    if len(symbols) == 1 and not others:
        parts.append(f'set [universe] calendar = "{next(iter(symbols))}"')
    elif symbols:
        each = ", ".join(f'"{name}" for {names[0]}' for name, names in symbols.items())
        parts.append(f"one configuration has one [universe] calendar, so write one per exchange: {each}")
    return "; ".join(parts)
