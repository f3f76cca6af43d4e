"""Reconcile new bars with stored ones: consistent bars are stored, contradicted symbols go into quarantine."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.prices.ingest.discrepancies import (
    find_jumps,
    find_overlap_faults,
    find_revisions,
    find_split_faults,
)
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.prices.ingest.leaps import LASTING, find_leaps, find_undone_leaps
from pipeline.prices.ingest.quality import FINDING_COLUMNS, no_findings
from pipeline.prices.revisions import REVISION
from pipeline.prices.store import VALUES, PriceStore

__all__ = ["COMPARED_COLUMNS", "Reconciliation", "reconcile"]

COMPARED_COLUMNS = ["instrument_id", *VALUES]
"""The columns of the stored bars, besides symbol and session, that an answer is compared with."""

_COMPARED = ["symbol", "session", "close", "split", "dividend", "status", "currency"]

_KEY = ["symbol", "session"]

_CORRECTABLE = ("leap", "split fault", "unit fault")
"""The contradictions of stored closes that can be a correction of theirs."""


@dataclass(frozen=True, eq=False)
class Reconciliation:
    """The result of reconciling checked bars with the store.

    Attributes:
        new: The new or revised bars to append (schema.PRICES).
        findings: Revisions, and the faults behind quarantine entries (quality.FINDING_COLUMNS).
        quarantined: Entries to add to the quarantine; symbols already there are left out.
        ended: Entries to end once the bars are stored.
    """

    new: pd.DataFrame
    findings: pd.DataFrame
    quarantined: list[QuarantineEntry]
    ended: list[QuarantineEntry]


def reconcile(
    store: PriceStore,
    prices: pd.DataFrame,
    stored: pd.DataFrame,
    quarantined: Mapping[str, QuarantineEntry],
    whole: frozenset[str],
    since: pd.Timestamp = pd.Timestamp.min,
    doubtful_from: pd.Timestamp = pd.Timestamp.max,
) -> Reconciliation:
    """Compare a source's answer with the stored bars.

    A symbol in quarantine, whose whole history is requested each time (fetch_plan), leaves it when its answer no longer
    contradicts the store, or when the user has released it: then the answer is stored as it is, and the bars before
    stay readable as earlier versions. A whole history may end in a leap too recent to have lasted: then no new bar is
    stored, of a history seen for the first time those before it. An answer that undoes a leap of the stored bars is a
    correction.

    Args:
        store: The price store.
        prices: Checked rows (schema.PRICES), each symbol's complete answer.
        stored: COMPARED_COLUMNS of these symbols' stored bars, from `since` on.
        quarantined: The entries now in quarantine, by instrument_id.
        whole: The symbols whose whole history was requested.
        since: The first requested session; an answer that begins earlier is compared with all of its symbol's bars.
        doubtful_from: The first session that is too recent for a jump to have lasted (`find_jumps`).

    Raises:
        StoreError: the store cannot be read.
    """
    if prices.empty:
        return Reconciliation(prices, no_findings(), [], [])
    ids = _instruments(prices)
    present = {symbol: quarantined[id_] for symbol, id_ in ids.items() if id_ in quarantined}
    released = {symbol for symbol, entry in present.items() if entry.is_released}
    compared = stored[_COMPARED]
    leaps = find_leaps(prices[prices["symbol"].isin(whole)])
    recent = _without_unchanged(
        leaps[leaps["is_lasting"] & (leaps["session"] >= doubtful_from)], prices, compared
    )
    faults = _find_faults(prices, stored, whole, recent, doubtful_from)
    faults = faults[~faults["symbol"].isin(released)]
    # The first row of a partial answer serves for comparison only: actions just before it are not in the answer.
    is_anchor = ~prices["symbol"].isin(whole) & ~prices["symbol"].duplicated()
    good = prices[_is_good(prices, compared, faults) & ~is_anchor]
    # Those of a symbol in quarantine were named when it got there.
    others = _without_same(leaps[~leaps["symbol"].isin(present)], faults)[FINDING_COLUMNS]
    return Reconciliation(
        new=store.select_new(good, stored if good.empty or good["session"].min() >= since else None),
        findings=pd.concat(
            [
                _quarantine_findings(faults),
                _without_unchanged(others, prices, compared),
                find_revisions(compared, good),
            ],
            ignore_index=True,
        ),
        quarantined=[entry for s, entry in _make_entries(faults, ids, prices).items() if s not in present],
        ended=[entry for symbol, entry in present.items() if symbol not in set(faults["symbol"])],
    )


def _find_faults(
    prices: pd.DataFrame,
    stored: pd.DataFrame,
    whole: frozenset[str],
    recent: pd.DataFrame,
    doubtful_from: pd.Timestamp,
) -> pd.DataFrame:
    """Return symbol, session, rule, detail, and whether the bars before the session are good (`is_since`)."""
    compared, splits = stored[_COMPARED], find_split_faults(prices)
    if not splits.empty:
        splits = _without_unchanged(splits, prices, compared)
    overlap = find_overlap_faults(compared, prices, whole)
    suspects = set(overlap["symbol"])
    before, answer = (rows[rows["symbol"].isin(suspects)] for rows in (stored, prices))
    after = pd.concat([answer, _without_same(before, answer)], join="inner").sort_values(_KEY)
    corrected = find_undone_leaps(before, after)["symbol"]
    overlap = overlap[~(overlap["symbol"].isin(corrected) & overlap["rule"].isin(_CORRECTABLE))]
    jumps = find_jumps(compared, prices, doubtful_from)
    detail = recent["detail"] + f"; accepted once it has lasted {LASTING} sessions"
    recent = _without_same(recent.assign(detail=detail)[jumps.columns], jumps)
    found = pd.concat([overlap, splits, jumps, recent], ignore_index=True)
    # Nobody knows which of two units is the right one: of such a history nothing is good.
    is_in_two_units = (found["rule"] == "unit fault") & (found["session"] < doubtful_from)
    is_leap = np.arange(len(found)) >= len(overlap) + len(splits)
    return found.assign(is_since=is_leap & ~is_in_two_units)


def _without_same(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose symbol and session do not occur among the others."""
    keys, taken = (pd.MultiIndex.from_frame(frame[_KEY]) for frame in (rows, others))
    return rows[~keys.isin(taken)]


def _is_good(prices: pd.DataFrame, stored: pd.DataFrame, faults: pd.DataFrame) -> "pd.Series[bool]":
    """Return the rows without a fault, [row]; of a history seen for the first time, those before a recent leap too."""
    is_jump = faults["is_since"] & ~faults["symbol"].isin(stored["symbol"].unique())
    others = faults.loc[~is_jump, "symbol"]
    jumps = faults[is_jump & ~faults["symbol"].isin(others)].groupby("symbol")["session"].min()
    return ~prices["symbol"].isin(faults["symbol"]) | (
        prices["session"] < pd.to_datetime(prices["symbol"].map(jumps.to_dict()))
    )


def _without_unchanged(found: pd.DataFrame, prices: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Return the findings but those of bars whose split and close are stored: accepted, or released by the user."""
    now, was = (
        rows[rows["symbol"].isin(found["symbol"]) & rows["session"].isin(found["session"])]
        for rows in (prices, stored)
    )
    both = now.merge(was, on=_KEY, suffixes=("", "_was"))
    is_same = (both["split"] == both["split_was"]) & (
        (both["close"] / both["close_was"] - 1).abs() < REVISION
    )
    return found[
        ~pd.MultiIndex.from_frame(found[_KEY]).isin(pd.MultiIndex.from_frame(both.loc[is_same, _KEY]))
    ]


def _instruments(prices: pd.DataFrame) -> dict[str, str]:
    pairs = prices[["symbol", "instrument_id"]].drop_duplicates("symbol")
    return dict(zip(pairs["symbol"], pairs["instrument_id"], strict=True))


def _quarantine_findings(faults: pd.DataFrame) -> pd.DataFrame:
    return faults.drop(columns="is_since").assign(
        rule="quarantine: " + faults["rule"], detail=faults["detail"] + "; no new bar of the symbol is stored"
    )


def _make_entries(
    faults: pd.DataFrame, ids: Mapping[str, str], prices: pd.DataFrame
) -> dict[str, QuarantineEntry]:
    """Return a quarantine entry for each symbol with a fault, made from its first fault."""
    seen = prices.groupby("symbol")["observed_at"].max()
    first = faults.drop_duplicates("symbol")
    rows = zip(first["symbol"], first["rule"], first["detail"], strict=True)
    return {s: QuarantineEntry(ids[s], s, seen[s].to_pydatetime(), rule, detail) for s, rule, detail in rows}
