"""Who may enter the store: bars that follow what is stored come in, a source that contradicts it goes to quarantine."""

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

__all__ = ["STANDING", "Reconciliation", "reconcile"]

STANDING = ["instrument_id", *VALUES]
"""The columns of the stored bars, next to symbol and session, that an answer is compared with."""

_COMPARED = ["symbol", "session", "close", "split", "dividend", "status", "currency"]

_KEY = ["symbol", "session"]


@dataclass(frozen=True, eq=False)
class Reconciliation:
    """What became of checked bars.

    Attributes:
        new: Those that say something new and may be appended (schema.PRICES).
        findings: Revisions, and why somebody is held (quality.FINDING_COLUMNS).
        held: Who goes into quarantine now, and was not there.
        ended: Who leaves it once the bars are stored.
    """

    new: pd.DataFrame
    findings: pd.DataFrame
    held: list[QuarantineEntry]
    ended: list[QuarantineEntry]


def reconcile(
    store: PriceStore,
    prices: pd.DataFrame,
    stored: pd.DataFrame,
    holds: Mapping[str, QuarantineEntry],
    whole: frozenset[str],
    since: pd.Timestamp = pd.Timestamp.min,
) -> Reconciliation:
    """Compare what a source says now with what it said before.

    Somebody in quarantine, who is asked for whole (fetch_plan), leaves it when nothing is contradicted any more, or
    when a person has released it: then the source is taken as it is, and what stood before stays readable.

    Args:
        store: What was said before.
        prices: Checked rows (schema.PRICES), all of a symbol's answer.
        stored: STANDING columns of what stands of these symbols, from `since` on.
        holds: Who is in quarantine, by instrument_id.
        whole: The symbols whose whole history was asked for.
        since: The first session that was asked for; an answer that begins earlier is compared with all of its bars.

    Raises:
        StoreError: the store cannot be read.
    """
    if prices.empty:
        return Reconciliation(prices, no_findings(), [], [])
    ids = _instruments(prices)
    waiting = {symbol: holds[id_] for symbol, id_ in ids.items() if id_ in holds}
    released = {symbol for symbol, hold in waiting.items() if hold.is_released}
    compared = stored[_COMPARED]
    faults = _find_faults(prices, compared, whole)
    faults = faults[~faults["symbol"].isin(released)]
    # The first row of a part is for comparing only: what acted just before it is not in the answer.
    is_anchor = ~prices["symbol"].isin(whole) & ~prices["symbol"].duplicated()
    good = prices[~prices["symbol"].isin(faults["symbol"]) & ~is_anchor]
    return Reconciliation(
        new=store.select_new(good, stored if good.empty or good["session"].min() >= since else None),
        findings=pd.concat([_refusals(faults), find_revisions(compared, good)], ignore_index=True),
        held=[hold for symbol, hold in _new_holds(faults, ids, prices).items() if symbol not in waiting],
        ended=[hold for symbol, hold in waiting.items() if symbol not in set(faults["symbol"])],
    )


def _find_faults(prices: pd.DataFrame, stored: pd.DataFrame, whole: frozenset[str]) -> pd.DataFrame:
    splits = find_split_faults(prices)
    if not splits.empty:
        splits = splits[~pd.MultiIndex.from_frame(splits[_KEY]).isin(_believed(prices, stored))]
    found = [find_overlap_faults(stored, prices, whole), splits, find_jumps(stored, prices)]
    return pd.concat(found, ignore_index=True)


def _believed(prices: pd.DataFrame, stored: pd.DataFrame) -> pd.MultiIndex:
    """Return the bars that stand as they are given: they were believed before, or released by a person."""
    both = prices.merge(stored, on=_KEY, suffixes=("", "_was"))
    is_same = (both["split"] == both["split_was"]) & (
        (both["close"] / both["close_was"] - 1).abs() < REVISION
    )
    return pd.MultiIndex.from_frame(both.loc[is_same, _KEY])


def _instruments(prices: pd.DataFrame) -> dict[str, str]:
    pairs = prices[["symbol", "instrument_id"]].drop_duplicates("symbol")
    return dict(zip(pairs["symbol"], pairs["instrument_id"], strict=True))


def _refusals(faults: pd.DataFrame) -> pd.DataFrame:
    return faults.assign(
        rule="quarantine: " + faults["rule"], detail=faults["detail"] + "; no new bar of it is stored"
    )


def _new_holds(
    faults: pd.DataFrame, ids: Mapping[str, str], prices: pd.DataFrame
) -> dict[str, QuarantineEntry]:
    """Return a hold for each symbol with a fault, for its first one."""
    seen = prices.groupby("symbol")["observed_at"].max()
    first = faults.drop_duplicates("symbol")
    told = zip(first["symbol"], first["rule"], first["detail"], strict=True)
    return {s: QuarantineEntry(ids[s], s, seen[s].to_pydatetime(), rule, detail) for s, rule, detail in told}
