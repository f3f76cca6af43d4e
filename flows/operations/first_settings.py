"""The first settings of a user: what fits the prices that are there, and why."""

import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from pipeline.config import Config, LabelsConfig, PricesConfig, UniverseConfig
from pipeline.errors import InputError, SourceError
from pipeline.features.feature_sets import FEATURE_SETS, default_features
from pipeline.forecasting.ranges import fit_ranges, least_sessions
from pipeline.formatting import count
from pipeline.market.calendar import Calendar
from pipeline.market.calendar import calendar as open_calendar
from pipeline.market.exchanges import EXCHANGES, suggest_calendar
from pipeline.market.fitting_calendar import fit_calendar
from pipeline.market.universe import Universe, universe
from pipeline.schema import SYMBOL_FIX, SYMBOL_PATTERN
from pipeline.sources import PriceSource
from pipeline.sources.survey import Survey, survey
from pipeline.storage.paths import expand

__all__ = ["LISTS", "Proposal", "Request", "propose"]

LISTS = "universes"
"""The folder beside the settings into which a shipped list is copied."""

_LOOKED_AT = 3
"""Members of a shipped list that are asked for: all of them would take a minute."""

_MOST = 5
"""Symbols that are named."""

_USUAL = 2000
"""Sessions with features from which on the default ranges leave half of the history to train on."""

_ENDED = 1
"""Sessions without a bar after which a file counts as ended: tonight's may still be appended."""


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        source: yahoo, files, or the name of a list.
        names: Symbols, or one path.
        lists: The shipped lists of constituents by name.
        calendar, proxy, ca_bundle: As given, or empty.
        now: The clock.
    """

    source: str
    names: tuple[str, ...]
    lists: Mapping[str, Path]
    calendar: str
    proxy: str
    ca_bundle: str
    now: datetime


@dataclass(frozen=True)
class Proposal:
    """The text of the settings, and what was found and chosen, by subject."""

    text: str
    facts: Mapping[str, str]


def propose(request: Request, say: Callable[[str], None]) -> Proposal:
    """Look at the prices and return settings that fit them.

    Args:
        request: What the user asks for.
        say: Called with a line before anything that takes time.

    Raises:
        InputError: the request is not understood, a symbol is not known, or no settings fit: the reason is named.
        SourceError: the source does not answer.
    """
    _check_request(request)
    with tempfile.TemporaryDirectory() as cache:
        source, symbols = _open_source(request, Path(cache))
        found = survey(
            source,
            symbols,
            request.now,
            lambda symbol: None if source.is_local else say(f"Looking at {symbol} ..."),
        )
    _require_prices(found, request)
    facts: dict[str, str] = {}
    calendar, members = _choose_calendar(found, request, say, facts)
    sessions = _kept_sessions(found, request, calendar, members)
    _describe_prices(found, request, sessions, members, facts)
    lines = [
        *_universe_lines(request, found, members, calendar),
        *_ended_lines(request, sessions, calendar, facts),
        *_price_lines(request, sessions),
        *_range_lines(sessions, facts),
    ]
    text = "\n".join([*_HEAD, *lines, ""])
    _require_valid(text)
    return Proposal(text, facts)


_HEAD = (
    "# Written by nextday init. Every key that is left out has its default value: `nextday init ./NEW_FOLDER` writes a",
    "# file that lists and explains them all. Paths are relative to this file's folder.",
    "",
)


def _check_request(request: Request) -> None:
    known = ["yahoo", "files", *request.lists]
    lists = " | ".join(request.lists)
    usage = f"nextday init files prices.csv, nextday init yahoo AAPL MSFT, nextday init {lists}, or nextday init ./DIR"
    problem = ""
    if request.source not in known:
        problem = f"nextday init knows no {request.source!r}"
    elif request.source == "yahoo" and not request.names:
        problem = "Yahoo cannot list its symbols, and none is given"
    elif request.source == "files" and len(request.names) != 1:
        problem = (
            f"files needs one path, and {len(request.names)} are given: put several files into one folder"
        )
    elif request.source in request.lists and request.names:
        problem = f"The list {request.source} has its symbols, and {request.names[0]!r} is given too"
    bad = [
        name for name in request.names if request.source == "yahoo" and not re.fullmatch(SYMBOL_PATTERN, name)
    ]
    if problem:
        raise InputError(problem, where="the arguments of nextday init", fix=f"write {usage}")
    if bad:
        raise InputError(
            f"No symbol can be named {', '.join(map(repr, bad))}", where="nextday init", fix=SYMBOL_FIX
        )


def _open_source(request: Request, cache: Path) -> tuple[PriceSource, Sequence[str]]:
    """Return the source, and the symbols to look at."""
    if request.source == "files":
        from pipeline.sources.files import FilesSource

        zone = EXCHANGES.get(request.calendar or "XNYS", ("", ""))[0]
        path = expand(request.names[0])
        if not path.exists():
            raise InputError(
                "There is no such file or folder", where=str(path.absolute()), fix="correct the path"
            )
        files = FilesSource(path, adjustment="auto", historical=False, timezone=zone)
        return files, files.symbols()
    from pipeline.sources.yahoo import YahooSource

    yahoo = YahooSource(cache_dir=cache, proxy=request.proxy, ca_bundle=request.ca_bundle)
    if request.source == "yahoo":
        return yahoo, request.names
    return yahoo, _read_list(request).members(pd.Timestamp(request.now.date()))[:_LOOKED_AT]


def _read_list(request: Request) -> Universe:
    path = request.lists[request.source]
    return universe(UniverseConfig(name=request.source, source="yahoo", file=path.name), path.parent, [])


def _require_prices(found: Survey, request: Request) -> None:
    """Raise where the source does not answer, or does not know a symbol that the user has named."""
    if found.tables and not (found.faults and request.source == "yahoo"):
        return
    lines = [f"{symbol}: {outcome}: {reason}" for symbol, (outcome, reason) in found.faults.items()]
    where = "\n           ".join([f"source {request.source}", *_first(lines)])
    what = f"There are no prices of {_name(found.faults)}"
    if any(outcome in ("transient", "rate_limited") for outcome, _ in found.faults.values()):
        raise SourceError(what, where=where, fix="try again later; nothing was written")
    raise InputError(what, where=where, fix="correct the symbols; nothing was written")


def _choose_calendar(
    found: Survey, request: Request, say: Callable[[str], None], facts: dict[str, str]
) -> tuple[Calendar, list[str]]:
    """Return the calendar, and the symbols that trade on it."""
    stated = {suggest_calendar(answer.timezone, symbol) for symbol, answer in found.answers.items()}
    candidates = [request.calendar] if request.calendar else sorted(filter(None, stated))
    if not candidates:
        say("Comparing the days with the sessions of the exchanges ...")
    first = min(days[0] for days in found.days.values())
    if request.calendar:
        open_calendar(
            request.calendar, first.date(), request.now
        )  # an unknown name is refused with the nearest ones
    fit = fit_calendar(found.days, candidates)
    alike = f"; the days fit {', '.join(fit.alike)} as well" if fit.alike else ""
    chosen = "as you say" if request.calendar else "its sessions are the days with prices"
    left_out = (
        f"; left out, for one file has one calendar: {_name(fit.strays)} ("
        + ", ".join(f"{symbol} has a bar on {day:%a %Y-%m-%d}" for symbol, day in [*fit.strays.items()][:1])
        + ")"
        if fit.strays
        else ""
    )
    facts["calendar"] = f"{fit.name}: {chosen}{alike}{left_out}"
    members = [symbol for symbol in found.tables if symbol not in fit.strays]
    start = min(first.date(), PricesConfig().start)
    return open_calendar(fit.name, start, request.now), members


def _kept_sessions(
    found: Survey, request: Request, calendar: Calendar, members: Sequence[str]
) -> pd.DatetimeIndex:
    """Return the sessions with a bar of a member, from the first that will be asked for."""
    days = found.sessions_of(members)
    since = pd.Timestamp(_start(days, request))
    if request.source in request.lists:
        since = max(since, _read_list(request).entries["first"].min(skipna=False))
    return days[days.isin(calendar.sessions) & (days >= since)]


def _start(days: pd.DatetimeIndex, request: Request) -> date:
    """Return [prices] start: earlier than usual where a file begins earlier."""
    usual = PricesConfig().start
    return min(days[0].date(), usual) if request.source == "files" else usual


def _describe_prices(
    found: Survey, request: Request, sessions: pd.DatetimeIndex, members: Sequence[str], facts: dict[str, str]
) -> None:
    for note in found.notes:
        facts["file"] = f"{facts['file']}; {note}" if "file" in facts else note
    looked = f"{len(found.tables)} looked at" if request.source in request.lists else f"{len(members):,}"
    facts["symbols"] = f"{looked}: {_name(members)}"
    if found.faults:
        reasons = [f"{symbol} ({reason})" for symbol, (_, reason) in found.faults.items()]
        facts["no prices"] = "; ".join(_first(reasons))
    facts["history"] = f"{sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d}, {count(len(sessions), 'session')}"
    if request.source == "files":
        adjustments = {answer.adjustment for answer in found.answers.values()}
        facts["prices"] = " and ".join(sorted(_ADJUSTMENTS[each] for each in adjustments))
    facts["opens"] = _describe_share(
        found.without_opens,
        members,
        "real ones",
        "they repeat the close before: no trading result will be shown",
    )
    facts["volume"] = _describe_share(
        found.without_volume, members, "reported", "not reported; nothing needs it"
    )


_ADJUSTMENTS = {
    "raw": "as traded",
    "split": "adjusted for splits, or without any",
    "split+dividend": "adjusted for splits and dividends",
}


def _describe_share(lacking: Sequence[str], members: Sequence[str], there: str, not_there: str) -> str:
    lacking = [symbol for symbol in lacking if symbol in members]
    if not lacking:
        return there
    return not_there if len(lacking) == len(members) else f"{there}; {not_there} for {_name(lacking)}"


def _universe_lines(request: Request, found: Survey, members: Sequence[str], calendar: Calendar) -> list[str]:
    lines = ["[universe]"]
    if request.source == "files":
        name, path = _slug(Path(request.names[0]).stem), json.dumps(request.names[0], ensure_ascii=False)
        lines += [f'name = "{name}"', 'source = "files"', f"path = {path}"]
        is_whole = len(members) == len(found.tables) and not found.faults
        lines += [f"symbols = {_toml_list(members)}"] if not is_whole else []
    elif request.source == "yahoo":
        lines += [
            f'name = "{_slug("-".join(members[:3]))}"',
            'source = "yahoo"   # personal use, see its terms',
            f"symbols = {_toml_list(members)}",
        ]
    else:
        path = json.dumps(f"{LISTS}/{request.source}.csv")
        lines += [f'name = "{request.source}"', 'source = "yahoo"   # personal use, see its terms']
        lines += [f"file = {path}   # its members on each day"]
    lines[1] += "   # names the folder of the reports"
    return [*lines, f'calendar = "{calendar.name}"']


def _ended_lines(
    request: Request, sessions: pd.DatetimeIndex, calendar: Calendar, facts: dict[str, str]
) -> list[str]:
    """Return whether the data has ended: a file that nobody continues."""
    if request.source != "files":
        facts["goes on"] = "yes: every evening asks for the newest session"
        return []
    delay = timedelta(minutes=PricesConfig().delay_minutes)
    closed = calendar.last_closed_session(request.now, delay, may_have_ended=True)
    behind = max(len(calendar.sessions_between(sessions[-1], closed)) - 1, 0)
    if behind <= _ENDED:
        facts["goes on"] = "yes: append each session's bars, and forecast every evening"
        return []
    facts["goes on"] = (
        f"no, it ended {count(behind, 'session')} ago: historical = true, so its forecasts count as late, never as live"
    )
    return [
        "historical = true   # the file has ended; delete this line once each session's bars are appended"
    ]


def _price_lines(request: Request, sessions: pd.DatetimeIndex) -> list[str]:
    lines = []
    if (start := _start(sessions, request)) < PricesConfig().start:
        lines.append(f"start = {start}   # the first day of the file")
    if request.proxy:
        lines.append(f"proxy = {json.dumps(request.proxy)}")
    if request.ca_bundle:
        lines.append(f"ca_bundle = {json.dumps(request.ca_bundle, ensure_ascii=False)}")
    return ["", "[prices]", *lines] if lines else []


def _range_lines(sessions: pd.DatetimeIndex, facts: dict[str, str]) -> list[str]:
    """Return the ranges that fit the history; nothing where the default ones do."""
    warm_up, gap = FEATURE_SETS[default_features(LabelsConfig().outputs)].reach, LabelsConfig().horizons[-1]
    usable = len(sessions) - warm_up
    if usable >= _USUAL:
        facts["ranges"] = "the default ones: the history is long enough"
        return []
    ranges = fit_ranges(usable, gap)
    if ranges is None:
        raise InputError(
            f"There is too little history: {count(len(sessions), 'session')}, and a forecast that can be scored needs "
            f"{least_sessions(gap) + warm_up} at least; 750 (three years) or more tell something",
            where=f"{sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d}",
            fix="give a longer history; nothing was written",
        )
    facts["ranges"] = (
        f"{usable} sessions have features: {ranges.training(usable, gap)} to train on, {ranges.stop} for early "
        f"stopping, {ranges.calibrate} to calibrate, {ranges.test} to test; the default ones need eight years"
    )
    return [
        "",
        "# Shares of a short history, instead of the default years.",
        "[training]",
        f"stop_sessions = {ranges.stop}",
        f"calibrate_sessions = {ranges.calibrate}",
        "",
        "[evaluation]",
        f"test_sessions = {ranges.test}          # the newest sessions, held out and scored",
        "",
        "[backtest]",
        f"train_sessions = {ranges.walk}",
        f"refit_sessions = {ranges.refit}",
    ]


def _require_valid(text: str) -> None:
    """Raise where the composed settings are refused, for example a proxy that is none."""
    try:
        Config.model_validate(tomllib.loads(text))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise InputError(
            "\n".join(faults), where="nextday init", fix="correct what you gave; nothing was written"
        ) from None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "mine"


def _toml_list(symbols: Sequence[str]) -> str:
    return json.dumps([*symbols])


def _name(symbols: Collection[str]) -> str:
    return ", ".join(_first([*symbols]))


def _first(texts: Sequence[str]) -> list[str]:
    return [*texts[:_MOST], *([f"{len(texts) - _MOST:,} more"] if len(texts) > _MOST else [])]
