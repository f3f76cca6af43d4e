"""One symbol's bars as known at an instant, and their later revisions."""

import difflib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import InputError, quoted
from pipeline.market.corporate_actions import adjusted_close
from pipeline.prices.store import VALUES, PriceStore

__all__ = ["REVISION", "SymbolHistory", "find_changes", "read_history"]


_KEY = ["symbol", "session"]
_NUMBERS = ["open", "high", "low", "close", "volume", "dividend", "split"]


@dataclass(frozen=True, eq=False)
class SymbolHistory:
    """One symbol's bars, ascending.

    Attributes:
        symbol: The symbol.
        bars: schema.PRICES with seq and `adj_close`: the total-return close in the units of the first bar, computed
            from these bars alone.
        revisions: Versions of these bars observed after `known_at` (`find_changes`); empty without a `known_at`.
    """

    symbol: str
    bars: pd.DataFrame
    revisions: pd.DataFrame


def read_history(
    store: PriceStore, symbol: str, as_of: pd.Timestamp | None = None, known_at: datetime | None = None
) -> SymbolHistory:
    """Return the bars of sessions up to `as_of` as known at `known_at`.

    Raises:
        InputError: the store has no such bar; the message says why.
        StoreError: the store cannot be read.
    """
    versions = store.versions(as_of, symbols=[symbol])
    known = versions[versions["observed_at"] <= known_at] if known_at else versions
    bars = known.drop_duplicates(_KEY, keep="last").reset_index(drop=True)
    if bars.empty:
        raise _no_bar(store, symbol, versions)
    close, dividend, split = (bars[[name]].to_numpy() for name in ("close", "dividend", "split"))
    bars["adj_close"] = adjusted_close(close, dividend, split)[:, 0]
    return SymbolHistory(symbol, bars, _select_later(find_changes(versions), bars, known_at))


def find_changes(versions: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each version of a bar that superseded another.

    Args:
        versions: Rows of the store, sorted by symbol, session and seq (`PriceStore.versions`).

    Returns:
        symbol, session, instrument_id, seq, observed_at; `change`, a description of the changed values; `is_material`,
        whether more changed than the status, and by more than single precision explains; `old_status`, the status
        before; `old_close` and `close`, the closes before and after.
    """
    places = np.flatnonzero(versions.duplicated(_KEY).to_numpy())
    before = versions.take(places - 1).reset_index(drop=True)
    after = versions.take(places).reset_index(drop=True)
    changes = after[[*_KEY, "instrument_id", "seq", "observed_at"]].assign(
        old_status=before["status"], old_close=before["close"], close=after["close"]
    )
    return changes.assign(change=_describe_changes(before, after), is_material=_is_material(before, after))


def _describe_changes(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    changes: list[list[str]] = [[] for _ in range(len(after))]
    for name in VALUES:
        old, new = before[name], after[name]
        for place in np.flatnonzero(~((old == new) | (old.isna() & new.isna()))):
            changes[place].append(f"{name} {_format_value(old[place])} -> {_format_value(new[place])}")
    return [", ".join(parts) for parts in changes]


def _format_value(value: Any) -> str:
    if pd.isna(value):
        return "none"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _is_material(before: pd.DataFrame, after: pd.DataFrame) -> "pd.Series[bool]":
    changed = pd.Series(False, index=after.index)
    for name in VALUES:
        old, new = before[name], after[name]
        if name in _NUMBERS:
            is_same = np.isclose(new, old, rtol=REVISION, atol=0, equal_nan=True)
            if name == "volume":
                is_same |= (old == 0) & new.isna()  # a volume that the source turned out not to report
            changed |= ~is_same
        elif name != "status":
            changed |= ~((old == new) | (old.isna() & new.isna()))
    return changed


def _select_later(changes: pd.DataFrame, bars: pd.DataFrame, known_at: datetime | None) -> pd.DataFrame:
    if known_at is None:
        return changes.head(0)
    shown = changes.merge(bars[[*_KEY, "seq"]], on=_KEY, suffixes=("", "_shown"))
    later = (shown["seq"] > shown["seq_shown"]) & (shown["observed_at"] > known_at)
    return shown[later].drop(columns="seq_shown").reset_index(drop=True)


def _no_bar(store: PriceStore, symbol: str, versions: pd.DataFrame) -> InputError:
    where = f"the price store {store.place}"
    if not versions.empty:
        first = versions["observed_at"].min()
        return InputError(
            f"No bar of {symbol} was known then: the first was observed at {first:%Y-%m-%d %H:%M:%S} UTC",
            where=where,
            fix="give a later --known-at",
        )
    stored = store.symbols()
    if symbol in stored:
        first = store.read(symbols=[symbol], columns=[])["session"].min()
        return InputError(
            f"The bars of {symbol} begin on {first:%Y-%m-%d}",
            where=where,
            fix="give a later --as-of",
        )
    nearest = difflib.get_close_matches(symbol.upper(), stored, n=3, cutoff=0.5)
    return InputError(
        f"There is no bar of a symbol {quoted(symbol)}",
        where=where,
        fix=f"nearest symbols: {', '.join(nearest)}"
        if nearest
        else "`nextday update` reports the source's answer for each symbol of the universe",
    )


REVISION = 2e-5
"""The smallest relative change of a close that counts as a revision: vendors compute in single precision."""
