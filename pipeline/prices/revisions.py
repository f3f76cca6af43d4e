"""One symbol's bars as they were known at an instant, and what became of them afterwards."""

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
        symbol: Whose.
        bars: schema.PRICES with seq and `adj_close`: the total-return close in the units of the first bar, made
            from these bars alone.
        revised: What became of these bars after the asked instant (`find_changes`); empty where none was asked.
    """

    symbol: str
    bars: pd.DataFrame
    revised: pd.DataFrame


def read_history(
    store: PriceStore, symbol: str, as_of: pd.Timestamp | None = None, known_at: datetime | None = None
) -> SymbolHistory:
    """Return the bars of sessions up to `as_of` as known at `known_at`.

    Raises:
        InputError: the store has no such bar.
        StoreError: the store cannot be read.
    """
    versions = store.versions(as_of, symbols=[symbol])
    known = versions[versions["observed_at"] <= known_at] if known_at else versions
    bars = known.drop_duplicates(_KEY, keep="last").reset_index(drop=True)
    if bars.empty:
        raise _no_bar(store, symbol, versions)
    close, dividend, split = (bars[[name]].to_numpy() for name in ("close", "dividend", "split"))
    bars["adj_close"] = adjusted_close(close, dividend, split)[:, 0]
    return SymbolHistory(symbol, bars, _later(find_changes(versions), bars, known_at))


def find_changes(versions: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each version of a bar that superseded another.

    Args:
        versions: Rows of the store by symbol, session and seq (`PriceStore.versions`).

    Returns:
        symbol, session, instrument_id, seq, observed_at; `change`, what the version says otherwise; `is_move`, whether
        that is more than a new status and more than what single precision explains; `was`, the former status; `former`
        and `close`, the closes before and after.
    """
    places = np.flatnonzero(versions.duplicated(_KEY).to_numpy())
    before = versions.take(places - 1).reset_index(drop=True)
    after = versions.take(places).reset_index(drop=True)
    changes = after[[*_KEY, "instrument_id", "seq", "observed_at"]].assign(
        was=before["status"], former=before["close"], close=after["close"]
    )
    return changes.assign(change=_describe(before, after), is_move=_is_move(before, after))


def _describe(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    said: list[list[str]] = [[] for _ in range(len(after))]
    for name in VALUES:
        old, new = before[name], after[name]
        for place in np.flatnonzero(~((old == new) | (old.isna() & new.isna()))):
            said[place].append(f"{name} {_written(old[place])} -> {_written(new[place])}")
    return [", ".join(parts) for parts in said]


def _written(value: Any) -> str:
    if pd.isna(value):
        return "none"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _is_move(before: pd.DataFrame, after: pd.DataFrame) -> "pd.Series[bool]":
    moved = pd.Series(False, index=after.index)
    for name in VALUES:
        old, new = before[name], after[name]
        if name in _NUMBERS:
            moved |= ~np.isclose(new, old, rtol=REVISION, atol=0, equal_nan=True)
        elif name != "status":
            moved |= ~((old == new) | (old.isna() & new.isna()))
    return moved


def _later(changes: pd.DataFrame, bars: pd.DataFrame, known_at: datetime | None) -> pd.DataFrame:
    if known_at is None:
        return changes.head(0)
    shown = changes.merge(bars[[*_KEY, "seq"]], on=_KEY, suffixes=("", "_shown"))
    later = (shown["seq"] > shown["seq_shown"]) & (shown["observed_at"] > known_at)
    return shown[later].drop(columns="seq_shown").reset_index(drop=True)


def _no_bar(store: PriceStore, symbol: str, versions: pd.DataFrame) -> InputError:
    where = f"the price store {store.folder}"
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
            f"The bars of {symbol} begin on {first:%Y-%m-%d}", where=where, fix="give a later --as-of"
        )
    nearest = difflib.get_close_matches(symbol.upper(), stored, n=3, cutoff=0.5)
    return InputError(
        f"There is no bar of a symbol {quoted(symbol)}",
        where=where,
        fix=f"nearest symbols: {', '.join(nearest)}"
        if nearest
        else "`nextday update` says what the source answers for each symbol of the universe",
    )


REVISION = 2e-5
"""A close that moves by a smaller share is no revision: vendors compute in single precision."""
