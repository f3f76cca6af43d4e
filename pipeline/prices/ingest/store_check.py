"""Checks of the whole price store: current bars, revisions, coverage and quarantine."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import InputError
from pipeline.market.calendar import Calendar
from pipeline.market.universe import MIN_COVERAGE, Universe
from pipeline.prices.ingest.discrepancies import JUMP, find_split_faults
from pipeline.prices.ingest.dividends import find_dividend_doubts
from pipeline.prices.ingest.fetch_log import FetchLog, QuarantineEntry
from pipeline.prices.ingest.leaps import LASTING, find_leaps, find_undone_leaps
from pipeline.prices.ingest.listing_status import Listing, find_listings
from pipeline.prices.ingest.quality import find_broken_rules, find_dividend_mismatches, find_missing
from pipeline.prices.ingest.unknown_closures import count_bars, find_unknown_closures
from pipeline.prices.revisions import find_changes
from pipeline.prices.store import PriceStore
from pipeline.schema import PRICES

__all__ = ["PriceFindings", "check_store"]

_KEY = ["symbol", "session"]
_COLUMNS = [*_KEY, "rule", "evidence", "done", "needs_person"]
_CHUNK = 100  # symbols
# How far the correction of a leap may differ from it, as a share of its log return: the market moved on that day too.
_ABOUT = 0.25


@dataclass(frozen=True, eq=False)
class PriceFindings:
    """The findings of a check of the store.

    Attributes:
        newest: The newest session with a bar.
        rows: symbol, session, rule, evidence, done (what nextday did about it, and the fix), needs_person (whether the
            user must act); those that need the user first.
        coverage: symbol, first, last, bars, expected, share; the lowest share first.
        superseded: The number of rows that a later row superseded.
        immaterial: How many of them only changed their status, or a value by no more than rounding explains.
    """

    newest: pd.Timestamp
    rows: pd.DataFrame
    coverage: pd.DataFrame
    superseded: int
    immaterial: int


def check_store(
    store: PriceStore,
    log: FetchLog,
    calendar: Calendar,
    members: Universe,
    *,
    last: pd.Timestamp,
    now: datetime,
    symbols: Sequence[str] | None = None,
) -> PriceFindings:
    """Check every stored bar of the sessions from the calendar's first to `last`.

    Args:
        store: The price store.
        log: The source's answers and the quarantine.
        calendar: The exchange's sessions, and when their bars settle.
        members: The universe, whose members' bars are expected.
        last: The last session that counts as closed.
        now: The current time, UTC.
        symbols: The symbols to check; default: all that are stored.

    Raises:
        InputError: there is no bar of these sessions.
        StoreError: the store cannot be read.
    """
    known = store.read(last, since=calendar.sessions[0], symbols=symbols, columns=["observed_at"])
    on_sessions = _on_sessions(known, calendar, last, store)
    newest, last_fetch = on_sessions["session"].max(), known["observed_at"].max()
    present = set(members.members(newest))
    ids = members.instruments
    quarantined = {entry.symbol: entry for id_, entry in log.quarantined().items() if id_ in ids.values()}
    released = log.released()
    healthy = sorted(present & set(known["symbol"]) - set(quarantined))
    listings = find_listings(on_sessions, log, calendar, healthy, newest)
    found = [_without_bars(present - set(known["symbol"]) - set(quarantined), newest)]
    found += [_quarantined(quarantined.values(), newest), _behind(listings, calendar, newest)]
    coverage, changes = [], []
    for versions in _chunks(store, calendar, known["symbol"].unique().tolist(), last):
        current = versions.drop_duplicates(_KEY, keep="last").reset_index(drop=True)
        changes.append(find_changes(versions))
        coverage.append(_coverage(current, calendar, present, newest))
        expected = current[current["symbol"].isin(present - set(quarantined))]
        found += [
            _broken(current),
            _without_prices(current),
            _contradictory(current, released),
            _off_calendar(current, calendar),
            _missing(current, calendar),
            _unsettled(expected, calendar, last_fetch, now),
            _revised(changes[-1], versions, released),
            _sparse(coverage[-1], newest),
        ]
    changed = pd.concat(changes, ignore_index=True)
    rows = pd.concat([part for part in found if not part.empty] or [_findings([])], ignore_index=True)
    rows = _merge_closures(rows, _closures(known, calendar, members))
    return PriceFindings(
        newest=newest,
        rows=rows.sort_values(["needs_person", *_KEY], ascending=[False, True, True], ignore_index=True),
        coverage=pd.concat(coverage).sort_values(["share", "symbol"], ignore_index=True),
        superseded=len(changed),
        immaterial=int((~changed["is_material"]).sum()),
    )


def _on_sessions(
    known: pd.DataFrame, calendar: Calendar, last: pd.Timestamp, store: PriceStore
) -> pd.DataFrame:
    """Return the bars on the calendar's sessions, or raise where there is none."""
    on_sessions = known[known["session"].isin(calendar.sessions)]
    if on_sessions.empty:
        raise InputError(
            f"There is no bar from {calendar.sessions[0]:%Y-%m-%d} to {last:%Y-%m-%d}",
            where=f"the price store {store.place}",
            fix="give another --now, or another [prices] start",
        )
    return on_sessions


def _chunks(
    store: PriceStore, calendar: Calendar, symbols: Sequence[str], last: pd.Timestamp
) -> Iterator[pd.DataFrame]:
    for first in range(0, len(symbols), _CHUNK):
        versions = store.versions(last, symbols=symbols[first : first + _CHUNK])
        yield versions[versions["session"] >= calendar.sessions[0]].reset_index(drop=True)


def _findings(rows: Sequence[tuple[str, pd.Timestamp, str, str, str, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=_COLUMNS)


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    yield from frame.itertuples()


def _without_bars(symbols: set[str], newest: pd.Timestamp) -> pd.DataFrame:
    evidence = "it is a constituent of the universe, but no bar of it is stored"
    done = "it gets no forecast; nextday update reports the source's answer"
    return _findings([(symbol, newest, "no bar", evidence, done, True) for symbol in sorted(symbols)])


def _broken(current: pd.DataFrame) -> pd.DataFrame:
    done = "left unchanged; nextday never stores such a bar: restore the store from a backup"
    faults = find_broken_rules(current[list(PRICES.columns)])
    return _findings([(row.symbol, row.session, row.rule, row.detail, done, True) for row in _rows(faults)])


def _off_calendar(current: pd.DataFrame, calendar: Calendar) -> pd.DataFrame:
    done = "no forecast uses it; check that [universe] calendar is the right one"
    days = current.loc[~current["session"].isin(calendar.sessions), _KEY]
    evidence = f"{calendar.name} was closed"
    return _findings([(row.symbol, row.session, "no session", evidence, done, True) for row in _rows(days)])


def _closures(known: pd.DataFrame, calendar: Calendar, members: Universe) -> pd.DataFrame:
    days = calendar.sessions_between(known["session"].min(), known["session"].max())
    unknown = find_unknown_closures(*count_bars(known, members, days), days, calendar.name)
    return _findings(
        [(calendar.name, row.session, row.rule, row.evidence, row.fix, True) for row in _rows(unknown)]
    )


def _merge_closures(rows: pd.DataFrame, closures: pd.DataFrame) -> pd.DataFrame:
    """Return the findings with those of the calendar, which replace the members' own findings of the same days."""
    same = {"unknown closure": "missing session", "unknown session": "no session"}
    whole = pd.MultiIndex.from_arrays([closures["session"], closures["rule"].map(same)])
    others = rows[~pd.MultiIndex.from_frame(rows[["session", "rule"]]).isin(whole)]
    return pd.concat([others, closures], ignore_index=True) if len(closures) else rows


def _missing(current: pd.DataFrame, calendar: Calendar) -> pd.DataFrame:
    done = "never filled; no forecast that needs it is made"
    rows = []
    for symbol in current["symbol"].unique():
        bars = current[current["symbol"] == symbol]
        days = bars["session"]
        evidence = f"no bar, although its bars run from {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}"
        missing = find_missing(bars, symbol, calendar)
        rows += [(symbol, row.session, row.rule, evidence, done, False) for row in _rows(missing)]
    return _findings(rows)


def _unsettled(
    current: pd.DataFrame, calendar: Calendar, last_fetch: pd.Timestamp, now: datetime
) -> pd.DataFrame:
    """Return the provisional bars that should have settled; they need the user if fetched since."""
    rows = []
    provisional = current[(current["status"] == "provisional") & current["session"].isin(calendar.sessions)]
    for row in _rows(provisional):
        due = calendar.settled_at(row.session)
        if due > now:
            continue
        was_fetched = last_fetch > due
        evidence = f"observed {_format_time(row.observed_at)}, due to settle at {_format_time(due)}" + (
            f"; other bars were fetched until {_format_time(last_fetch)}"
            if was_fetched
            else "; nothing was fetched since"
        )
        done = "no outcome is settled from it; nextday update requests it again"
        rows.append((row.symbol, row.session, "not settled", evidence, done, was_fetched))
    return _findings(rows)


def _revised(changes: pd.DataFrame, versions: pd.DataFrame, released: Container[str]) -> pd.DataFrame:
    """Return every material change; a jump of a settled close needs the user unless undone, released or corrected."""
    closes = versions.groupby(_KEY, as_index=False)["close"].agg(oldest="first", current="last")
    material = changes[changes["is_material"]].merge(closes, on=_KEY)
    of_these = versions[versions["symbol"].isin(material["symbol"])]
    undone = find_undone_leaps(*(of_these.drop_duplicates(_KEY, keep=which) for which in ("first", "last")))
    rows = []
    for row in _rows(material):
        is_settled = row.old_status == "settled"
        is_jump = is_settled and _jumps(row.old_close, row.close) and _jumps(row.oldest, row.current)
        is_jump &= row.instrument_id not in released and not _is_correction(row, undone)
        done = f"kept as version {row.seq}; --known-at reads the bar as it was before"
        if is_jump:
            done += "; a lost split or another unit looks like this: compare with another source"
        rule = "revised after it settled" if is_settled else "revised before it settled"
        evidence = f"{row.change}; observed {_format_time(row.observed_at)}"
        rows.append((row.symbol, row.session, rule, evidence, done, is_jump))
    return _findings(rows)


def _is_correction(change: Any, undone: pd.DataFrame) -> bool:
    """Whether a change of a close, by the size of an undone leap, corrects a bar that the leap had moved."""
    leaps = undone[undone["symbol"] == change.symbol]
    moved = abs(np.log(change.current / change.oldest))
    is_near = (change.session - leaps["session"]).dt.days.between(0, 2 * LASTING)
    is_size = (leaps["size"] - moved).abs() < _ABOUT * leaps["size"]
    return bool((is_size & (leaps["is_lasting"] | is_near)).any())


def _jumps(old: float, new: float) -> bool:
    return not 1 / JUMP < new / old < JUMP


def _coverage(
    current: pd.DataFrame, calendar: Calendar, present: set[str], newest: pd.Timestamp
) -> pd.DataFrame:
    """Return bars per expected session: up to the newest session for members, up to the last bar for others."""
    bars = current[current["session"].isin(calendar.sessions)].groupby("symbol")["session"]
    spans = bars.agg(first="min", last="max", bars="count").reset_index()
    ends = spans["last"].where(~spans["symbol"].isin(present), newest)
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
        done = "it gets no forecast; every run requests it again"
        if is_gone:
            evidence = listing.evidence
            done = (
                "its bars stay; if it was renamed, list the old symbol in the universe file (formerly); "
                "if it is gone, end its membership"
            )
        rule = listing.state if is_gone else "bars end early"
        rows.append((symbol, newest, rule, evidence, done, is_gone))
    return _findings(rows)


def _quarantined(entries: Iterable[QuarantineEntry], newest: pd.Timestamp) -> pd.DataFrame:
    done = (
        "no new bar of it is stored; every run requests its whole history, and the quarantine ends when that no longer "
        "contradicts the store; if the source is right: nextday prices quarantine release"
    )
    return _findings(
        [
            (
                entry.symbol,
                newest,
                f"quarantine: {entry.rule}",
                f"since {_format_time(entry.since)}: {entry.evidence}",
                done,
                True,
            )
            for entry in entries
        ]
    )


def _without_prices(current: pd.DataFrame) -> pd.DataFrame:
    """Return a note for each symbol of which bars lack open, high or low."""
    missing = current[["open", "high", "low"]].isna()
    lacking = current[missing.any(axis=1)]
    done = "kept as missing; of the feature sets, default needs high and low, closes needs the close alone"
    rows = []
    for symbol, bars in lacking.groupby("symbol", sort=False):
        counts = missing.loc[bars.index].sum()
        parts = [f"no {name} on {number:,}" for name, number in counts.items() if number]
        evidence = f"{', '.join(parts)} of {int((current['symbol'] == symbol).sum()):,} bars"
        rows.append((str(symbol), bars["session"].max(), "prices missing", evidence, done, False))
    return _findings(rows)


def _contradictory(current: pd.DataFrame, released: Container[str]) -> pd.DataFrame:
    """Return the findings where stored splits, dividends or closes contradict each other or the adjusted closes."""
    split = "stored as it came; a false split changes every price before it: compare with another source"
    leap = "stored as it came: compare with another source; a corrected history will replace it"
    dividend = "the bars stay; returns are computed from the dividends, not from the vendor's adjusted closes"
    splits, leaps = find_split_faults(current), find_leaps(current)
    leaps = leaps[~pd.MultiIndex.from_frame(leaps[_KEY]).isin(pd.MultiIndex.from_frame(splits[_KEY]))]
    mismatches, doubts = find_dividend_mismatches(current), find_dividend_doubts(current)
    ids = current[[*_KEY, "instrument_id"]]
    return _findings(
        [
            (r.symbol, r.session, r.rule, r.detail, done, needs_person and r.instrument_id not in released)
            for faults, done, needs_person in (
                (splits, split, True),
                (leaps, leap, True),
                (mismatches, dividend, False),
                (doubts, dividend, False),
            )
            for r in _rows(faults.merge(ids, on=_KEY))
        ]
    )


def _sparse(coverage: pd.DataFrame, newest: pd.Timestamp) -> pd.DataFrame:
    done = "its bars stay; with so many missing, use another source for the symbol or remove it from the universe"
    return _findings(
        [
            (row.symbol, newest, "low coverage", f"{row.bars} of {row.expected} sessions", done, True)
            for row in _rows(coverage[coverage["share"] < MIN_COVERAGE])
        ]
    )


def _format_time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
