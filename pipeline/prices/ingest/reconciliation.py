"""Reconcile new bars with stored ones: consistent bars are stored, contradicted symbols go into quarantine."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipeline.prices.ingest.discrepancies import (
    find_jumps,
    find_overlap_faults,
    find_revisions,
    find_split_faults,
)
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.prices.ingest.quality import no_findings
from pipeline.prices.revisions import REVISION
from pipeline.prices.store import VALUES, PriceStore

__all__ = ["COMPARED_COLUMNS", "Reconciliation", "reconcile"]

COMPARED_COLUMNS = ["instrument_id", *VALUES]
"""The columns of the stored bars, besides symbol and session, that an answer is compared with."""

_COMPARED = ["symbol", "session", "close", "split", "dividend", "status", "currency"]

_KEY = ["symbol", "session"]


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
) -> Reconciliation:
    """Compare a source's answer with the stored bars.

    A symbol in quarantine, whose whole history is requested each time (fetch_plan), leaves it when its answer no longer
    contradicts the store, or when the user has released it: then the answer is stored as it is, and the bars before
    stay readable as earlier versions.

    Args:
        store: The price store.
        prices: Checked rows (schema.PRICES), each symbol's complete answer.
        stored: COMPARED_COLUMNS of these symbols' stored bars, from `since` on.
        quarantined: The entries now in quarantine, by instrument_id.
        whole: The symbols whose whole history was requested.
        since: The first requested session; an answer that begins earlier is compared with all of its symbol's bars.

    Raises:
        StoreError: the store cannot be read.
    """
    if prices.empty:
        return Reconciliation(prices, no_findings(), [], [])
    ids = _instruments(prices)
    present = {symbol: quarantined[id_] for symbol, id_ in ids.items() if id_ in quarantined}
    released = {symbol for symbol, entry in present.items() if entry.is_released}
    compared = stored[_COMPARED]
    faults = _find_faults(prices, compared, whole)
    faults = faults[~faults["symbol"].isin(released)]
    # The first row of a partial answer serves for comparison only: actions just before it are not in the answer.
    is_anchor = ~prices["symbol"].isin(whole) & ~prices["symbol"].duplicated()
    good = prices[~prices["symbol"].isin(faults["symbol"]) & ~is_anchor]
    return Reconciliation(
        new=store.select_new(good, stored if good.empty or good["session"].min() >= since else None),
        findings=pd.concat([_quarantine_findings(faults), find_revisions(compared, good)], ignore_index=True),
        quarantined=[entry for s, entry in _make_entries(faults, ids, prices).items() if s not in present],
        ended=[entry for symbol, entry in present.items() if symbol not in set(faults["symbol"])],
    )


def _find_faults(prices: pd.DataFrame, stored: pd.DataFrame, whole: frozenset[str]) -> pd.DataFrame:
    splits = find_split_faults(prices)
    if not splits.empty:
        splits = splits[~pd.MultiIndex.from_frame(splits[_KEY]).isin(_unchanged(prices, stored))]
    faults = [find_overlap_faults(stored, prices, whole), splits, find_jumps(stored, prices)]
    return pd.concat(faults, ignore_index=True)


def _unchanged(prices: pd.DataFrame, stored: pd.DataFrame) -> pd.MultiIndex:
    """Return the bars whose split and close equal the stored ones: accepted before, or released by the user."""
    both = prices.merge(stored, on=_KEY, suffixes=("", "_was"))
    is_same = (both["split"] == both["split_was"]) & (
        (both["close"] / both["close_was"] - 1).abs() < REVISION
    )
    return pd.MultiIndex.from_frame(both.loc[is_same, _KEY])


def _instruments(prices: pd.DataFrame) -> dict[str, str]:
    pairs = prices[["symbol", "instrument_id"]].drop_duplicates("symbol")
    return dict(zip(pairs["symbol"], pairs["instrument_id"], strict=True))


def _quarantine_findings(faults: pd.DataFrame) -> pd.DataFrame:
    return faults.assign(
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
