"""The checks of the stored prices, made again over everything that stands, and over what was superseded."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from pipeline.errors import InputError
from pipeline.market.calendar import Calendar
from pipeline.market.universe import MIN_COVERAGE, Universe
from pipeline.prices.ingest.discrepancies import JUMP, find_split_faults
from pipeline.prices.ingest.fetch_log import FetchLog, QuarantineEntry
from pipeline.prices.ingest.listing_status import Listing, find_listings
from pipeline.prices.ingest.quality import find_broken_rules, find_dividend_doubts, find_missing
from pipeline.prices.ingest.unknown_closures import count_bars, find_unknown_closures
from pipeline.prices.revisions import find_changes
from pipeline.prices.store import PriceStore
from pipeline.schema import PRICES

__all__ = ["PriceFindings", "find_faults"]

_KEY = ["symbol", "session"]
_COLUMNS = [*_KEY, "rule", "evidence", "done", "needs_person"]
_BLOCK = 100


@dataclass(frozen=True, eq=False)
class PriceFindings:
    """What the checks found.

    Attributes:
        newest: The newest session with a bar.
        rows: symbol, session, rule, evidence, done (what was done about it), needs_person; those that need a
            person first.
        coverage: symbol, first, last, bars, expected, share; the least covered first.
        superseded: How many rows of the store were superseded by a later one.
        quiet: How many of them the later one only settled, or moved by less than rounding explains.
    """

    newest: pd.Timestamp
    rows: pd.DataFrame
    coverage: pd.DataFrame
    superseded: int
    quiet: int


def find_faults(
    store: PriceStore,
    log: FetchLog,
    calendar: Calendar,
    members: Universe,
    *,
    last: pd.Timestamp,
    now: datetime,
) -> PriceFindings:
    """Check every stored bar of sessions from the calendar's first to `last`.

    Args:
        store: The bars.
        log: What the source answered, and who is in quarantine.
        calendar: Decides what a session is, and when its bar should have settled.
        members: Decides whose bars are expected.
        last: The last session that counts as closed.
        now: The time it is, UTC.

    Raises:
        InputError: there is no bar of these sessions.
        StoreError: the store cannot be read.
    """
    known = store.read(last, since=calendar.sessions[0], columns=["observed_at"])
    on_sessions = known[known["session"].isin(calendar.sessions)]
    if on_sessions.empty:
        raise InputError(
            f"There is no bar from {calendar.sessions[0]:%Y-%m-%d} to {last:%Y-%m-%d}",
            where=f"the price store {store.folder}",
            fix="give another --now, or another [prices] start",
        )
    newest, asked = on_sessions["session"].max(), known["observed_at"].max()
    here = set(members.members(newest))
    ids = members.instruments
    held = {hold.symbol: hold for id_, hold in log.holds().items() if id_ in ids.values()}
    released = log.released()
    healthy = sorted(here & set(known["symbol"]) - set(held))
    listings = find_listings(on_sessions, log, calendar, healthy, newest)
    found = [_absent(here - set(known["symbol"]) - set(held), newest), _held(held.values(), newest)]
    found.append(_behind(listings, calendar, newest))
    coverage, changes = [], []
    for versions in _blocks(store, calendar, known["symbol"].unique().tolist(), last):
        standing = versions.drop_duplicates(_KEY, keep="last").reset_index(drop=True)
        changes.append(find_changes(versions))
        coverage.append(_coverage(standing, calendar, here, newest))
        found += [
            _broken(standing),
            _contradicted(standing, released),
            _off_calendar(standing, calendar),
            _missing(standing, calendar),
            _unsettled(standing[standing["symbol"].isin(here - set(held))], calendar, asked, now),
            _revised(changes[-1], versions, released),
            _sparse(coverage[-1], newest),
        ]
    changed = pd.concat(changes, ignore_index=True)
    rows = pd.concat([part for part in found if not part.empty] or [_found([])], ignore_index=True)
    rows = _joined(rows, _closures(known, calendar, members))
    return PriceFindings(
        newest=newest,
        rows=rows.sort_values(["needs_person", *_KEY], ascending=[False, True, True], ignore_index=True),
        coverage=pd.concat(coverage).sort_values(["share", "symbol"], ignore_index=True),
        superseded=len(changed),
        quiet=int((~changed["is_move"]).sum()),
    )


def _blocks(
    store: PriceStore, calendar: Calendar, symbols: Sequence[str], last: pd.Timestamp
) -> Iterator[pd.DataFrame]:
    for first in range(0, len(symbols), _BLOCK):
        versions = store.versions(last, symbols=symbols[first : first + _BLOCK])
        yield versions[versions["session"] >= calendar.sessions[0]].reset_index(drop=True)


def _found(rows: Sequence[tuple[str, pd.Timestamp, str, str, str, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=_COLUMNS)


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    yield from frame.itertuples()


def _absent(symbols: set[str], newest: pd.Timestamp) -> pd.DataFrame:
    evidence = "it belongs to the universe, and no bar of it is stored"
    done = "it has no forecast; nextday update says what the source answers"
    return _found([(symbol, newest, "no bar", evidence, done, True) for symbol in sorted(symbols)])


def _broken(standing: pd.DataFrame) -> pd.DataFrame:
    done = "it stands as it is: no run of nextday stores such a bar; put the store back from a copy"
    faults = find_broken_rules(standing[list(PRICES.columns)])
    return _found([(row.symbol, row.session, row.rule, row.detail, done, True) for row in _rows(faults)])


def _off_calendar(standing: pd.DataFrame, calendar: Calendar) -> pd.DataFrame:
    done = "no forecast uses it; see whether [universe] calendar is the right one"
    days = standing.loc[~standing["session"].isin(calendar.sessions), _KEY]
    evidence = f"{calendar.name} was closed"
    return _found([(row.symbol, row.session, "no session", evidence, done, True) for row in _rows(days)])


def _closures(known: pd.DataFrame, calendar: Calendar, members: Universe) -> pd.DataFrame:
    days = calendar.sessions_between(known["session"].min(), known["session"].max())
    wrong = find_unknown_closures(*count_bars(known, members, days), days, calendar.name)
    return _found(
        [(calendar.name, row.session, row.rule, row.evidence, row.fix, True) for row in _rows(wrong)]
    )


def _joined(rows: pd.DataFrame, closures: pd.DataFrame) -> pd.DataFrame:
    """Return the findings, with one of the whole universe in place of each member's on such a day."""
    same = {"unknown closure": "missing session", "unknown session": "no session"}
    whole = pd.MultiIndex.from_arrays([closures["session"], closures["rule"].map(same)])
    alone = rows[~pd.MultiIndex.from_frame(rows[["session", "rule"]]).isin(whole)]
    return pd.concat([alone, closures], ignore_index=True) if len(closures) else rows


def _missing(standing: pd.DataFrame, calendar: Calendar) -> pd.DataFrame:
    done = "never filled; no forecast that needs it"
    rows = []
    for symbol in standing["symbol"].unique():
        bars = standing[standing["symbol"] == symbol]
        days = bars["session"]
        evidence = f"no bar, and its bars run from {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}"
        holes = find_missing(bars, symbol, calendar)
        rows += [(symbol, row.session, row.rule, evidence, done, False) for row in _rows(holes)]
    return _found(rows)


def _unsettled(
    standing: pd.DataFrame, calendar: Calendar, asked: pd.Timestamp, now: datetime
) -> pd.DataFrame:
    """Return the provisional bars past their time; a person is needed once the source was asked after that time."""
    rows = []
    open_ones = standing[(standing["status"] == "provisional") & standing["session"].isin(calendar.sessions)]
    for row in _rows(open_ones):
        due = calendar.settled_at(row.session)
        if due > now:
            continue
        was_asked = asked > due
        evidence = f"observed {_when(row.observed_at)}, to settle from {_when(due)}" + (
            f"; other bars came until {_when(asked)}" if was_asked else "; nothing was fetched since"
        )
        done = "no outcome is settled from it; nextday update asks again"
        rows.append((row.symbol, row.session, "not settled", evidence, done, was_asked))
    return _found(rows)


def _revised(changes: pd.DataFrame, versions: pd.DataFrame, released: Container[str]) -> pd.DataFrame:
    """Return every real change; a leap of a settled close needs a person, unless it was undone or one has decided."""
    closes = versions.groupby(_KEY, as_index=False)["close"].agg(oldest="first", standing="last")
    moved = changes[changes["is_move"]].merge(closes, on=_KEY)
    rows = []
    for row in _rows(moved):
        is_settled = row.was == "settled"
        is_leap = is_settled and _leaps(row.former, row.close) and _leaps(row.oldest, row.standing)
        is_leap &= row.instrument_id not in released
        done = f"kept as version {row.seq}; --known-at reads the bar as it was before"
        if is_leap:
            done += "; a lost split or another unit looks like this: compare with another source"
        rule = "revised after it settled" if is_settled else "revised before it settled"
        evidence = f"{row.change}; observed {_when(row.observed_at)}"
        rows.append((row.symbol, row.session, rule, evidence, done, is_leap))
    return _found(rows)


def _leaps(old: float, new: float) -> bool:
    return not 1 / JUMP < new / old < JUMP


def _coverage(
    standing: pd.DataFrame, calendar: Calendar, here: set[str], newest: pd.Timestamp
) -> pd.DataFrame:
    """Return how many sessions have a bar: to the newest one for members, to their own last for the others."""
    bars = standing[standing["session"].isin(calendar.sessions)].groupby("symbol")["session"]
    spans = bars.agg(first="min", last="max", bars="count").reset_index()
    ends = spans["last"].where(~spans["symbol"].isin(here), newest)
    expected = [
        len(calendar.sessions_between(first, end)) for first, end in zip(spans["first"], ends, strict=True)
    ]
    return spans.assign(expected=expected, share=spans["bars"] / expected)


def _behind(listings: Mapping[str, Listing], calendar: Calendar, newest: pd.Timestamp) -> pd.DataFrame:
    rows = []
    for symbol, listing in listings.items():
        if listing.last is None or listing.last == newest:
            continue
        absent = len(calendar.sessions_between(listing.last, newest)) - 1
        evidence = f"the last bar is of {listing.last:%Y-%m-%d}; sessions since: {absent}"
        is_gone = listing.state != "trading"
        done = "it has no forecast; every run asks for it again"
        if is_gone:
            evidence = listing.evidence
            done = "its bars stay; renamed: join the names in the universe's file (formerly); gone: end its membership"
        rule = listing.state if is_gone else "bars end early"
        rows.append((symbol, newest, rule, evidence, done, is_gone))
    return _found(rows)


def _held(holds: Iterable[QuarantineEntry], newest: pd.Timestamp) -> pd.DataFrame:
    done = (
        "nothing new of it is stored; every run asks for its whole history, and it is out when that contradicts "
        "nothing; if the source is right: nextday prices quarantine release"
    )
    return _found(
        [
            (
                hold.symbol,
                newest,
                f"quarantine: {hold.rule}",
                f"since {_when(hold.since)}: {hold.evidence}",
                done,
                True,
            )
            for hold in holds
        ]
    )


def _contradicted(standing: pd.DataFrame, released: Container[str]) -> pd.DataFrame:
    """Return what the stored splits, dividends and adjusted closes say against each other."""
    split = "it stands as it came; a split that never was moves every price before it: compare with another source"
    dividend = "the bars stand; returns are made from the dividends, not from the vendor's adjusted closes"
    faults = standing[["symbol", "session", "instrument_id"]].merge(find_split_faults(standing))
    rows = [
        (r.symbol, r.session, r.rule, r.detail, split, r.instrument_id not in released) for r in _rows(faults)
    ]
    doubts = find_dividend_doubts(standing)
    return _found(rows + [(r.symbol, r.session, r.rule, r.detail, dividend, False) for r in _rows(doubts)])


def _sparse(coverage: pd.DataFrame, newest: pd.Timestamp) -> pd.DataFrame:
    done = "its bars stand; a symbol that lacks so many belongs to another source or out of the universe"
    return _found(
        [
            (row.symbol, newest, "low coverage", f"{row.bars} of {row.expected} sessions", done, True)
            for row in _rows(coverage[coverage["share"] < MIN_COVERAGE])
        ]
    )


def _when(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
