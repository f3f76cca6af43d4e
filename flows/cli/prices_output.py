"""What `nextday prices` prints: bars as they were known, findings, and the quarantine."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from flows.cli.console import console, make_table
from pipeline.formatting import count, format_percent, format_price

if TYPE_CHECKING:
    from pipeline.prices.ingest.fetch_log import QuarantineEntry
    from pipeline.prices.ingest.store_check import PriceFindings
    from pipeline.prices.revisions import SymbolHistory

__all__ = [
    "show_export",
    "show_history",
    "show_price_findings",
    "show_quarantine",
    "show_quarantine_events",
    "show_release",
]

_MOST, _FEW = 20, 5
_WIDE = 120
"""Terminal width from which a table of bars has room for open, high, low and volume."""


def show_history(history: "SymbolHistory", universe: str, known_at: datetime | None, last: int) -> None:
    """Print the newest `last` bars, their units, and how they were revised after `known_at`."""
    bars = history.bars
    shown = bars.tail(last)
    when = f"as known at {known_at:%Y-%m-%d %H:%M:%S} UTC" if known_at else "as known now"
    for line in (
        f"{history.symbol} in the universe {universe}, {when} (version {bars['seq'].max()})",
        f"{len(shown):,} of {count(len(bars), 'bar')} from {bars['session'].iloc[0]:%Y-%m-%d} "
        f"to {bars['session'].iloc[-1]:%Y-%m-%d}; currency {_or_dash(bars['currency'].iloc[-1])}",
        "prices and dividends as traded, each in the units of its own session",
        "adjusted: the close with splits and dividends, chained forwards from the",
        f"  first bar ({bars['session'].iloc[0]:%Y-%m-%d}), in the units of that session",
    ):
        console.print(line, markup=False)
    console.print()
    console.print(_bar_table(shown))
    if console.width < _WIDE:
        console.print(f"open, high, low and volume are shown in a terminal of {_WIDE} columns, and in pipes")
    if known_at is not None:
        _show_revised(history.revisions)


def _bar_table(bars: pd.DataFrame) -> Table:
    is_wide = console.width >= _WIDE
    more = ("open", "high", "low") if is_wide else ()
    table = make_table(
        "session", *more, "close", *(["volume"] if is_wide else []),
        "adjusted", "div.", "split", "status", "observed (UTC)",
    )  # fmt: skip
    for row in _rows(bars):
        # Rounded up, so that the bar was known at the time shown.
        observed = row.observed_at.ceil("min")
        table.add_row(
            f"{row.session:%Y-%m-%d}",
            *(_price_or_dash(getattr(row, name)) for name in more),
            format_price(row.close),
            *(["–" if pd.isna(row.volume) else f"{row.volume:,.0f}"] if is_wide else []),
            format_price(row.adj_close),
            f"{row.dividend:g}" if row.dividend else "–",
            f"{row.split:g}" if row.split != 1 else "–",
            row.status,
            f"{observed:%Y-%m-%d %H:%M}",
        )
    return table


def _show_revised(revised: pd.DataFrame) -> None:
    console.print()
    if revised.empty:
        console.print("none of these bars was revised later")
        return
    console.print(f"revised later ({count(len(revised), 'row')} superseded one of these bars):")
    grid = Table.grid(padding=(0, 2))
    newest = revised.sort_values(["session", "seq"], ascending=False)
    for row in _rows(newest.head(_MOST)):
        text = f"{row.change}; observed {row.observed_at:%Y-%m-%d %H:%M} UTC, version {row.seq}"
        grid.add_row(f"  {row.session:%Y-%m-%d}", Text(text))
    console.print(grid)
    if len(revised) > _MOST:
        console.print(f"  and {len(revised) - _MOST:,} of earlier sessions")


def show_price_findings(found: "PriceFindings", whose: str, *, everything: bool) -> None:
    """Print each symbol's coverage, and the findings: those that need a person are marked FIX."""
    coverage, rows = found.coverage, found.rows
    console.print(
        f"prices of {whose} to {found.newest:%Y-%m-%d}: {count(len(coverage), 'symbol')}, "
        f"{count(int(coverage['bars'].sum()), 'bar')}",
        markup=False,
    )
    console.print(
        f"{count(found.superseded, 'row')} superseded, {found.immaterial:,} of them settled with no other change"
    )
    console.print()
    console.print(_coverage_table(coverage if everything else coverage.head(_MOST)))
    console.print()
    shown = rows if everything else _newest_findings(rows)
    grid = Table.grid(padding=(0, 2))
    for row in _rows(shown):
        title = f"{row.symbol} {row.session:%Y-%m-%d}: {row.rule}"
        grid.add_row("FIX" if row.needs_person else "note", Text(f"{title}\n{row.evidence}\n{row.done}"))
    console.print(grid)
    if len(shown) < len(rows):
        console.print(f"{len(rows) - len(shown):,} more findings: nextday prices check --all lists them")
    console.print(_count_findings(len(rows), int(rows["needs_person"].sum())))


def _count_findings(findings: int, need_person: int) -> str:
    if findings == 1:
        return f"1 finding, which needs {'a' if need_person else 'no'} person"
    need = "needs" if need_person == 1 else "need"
    return f"{count(findings, 'finding')}, {need_person:,} of them {need} a person"


def _newest_findings(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the newest few findings of each rule and all that need a person, in the order of `rows`."""
    newest = rows.sort_values("session", ascending=False).groupby("rule").head(_FEW)
    return rows[rows["needs_person"] | rows.index.isin(newest.index)]


def _coverage_table(coverage: pd.DataFrame) -> Table:
    table = make_table("symbol", "first", "last", "bars", "of", "data coverage")
    for row in _rows(coverage):
        table.add_row(
            row.symbol,
            f"{row.first:%Y-%m-%d}",
            f"{row.last:%Y-%m-%d}",
            f"{row.bars:,}",
            f"{row.expected:,}",
            format_percent(row.share),
        )
    return table


def show_export(bars: int, path: Path) -> None:
    """Print how many bars were exported, and the path."""
    console.print(f"{count(bars, 'bar')} written to {path}", markup=False, soft_wrap=True)


def show_quarantine(entries: "list[QuarantineEntry]", universe: str) -> None:
    """Print which symbols are in quarantine, why, and what ends it."""
    if not entries:
        console.print(f"no symbol of the universe {universe} is in quarantine", markup=False)
        return
    grid = Table.grid(padding=(0, 2))
    for entry in sorted(entries, key=lambda entry: entry.symbol):
        state = (
            "released: the next run accepts the source as it is"
            if entry.is_released
            else "every run fetches its whole history; the quarantine ends when that has no contradiction left"
        )
        text = f"{entry.rule}, since {entry.since:%Y-%m-%d %H:%M} UTC\n{entry.evidence}\n{state}"
        grid.add_row(entry.symbol, Text(text))
    console.print(grid)
    console.print(f"{count(len(entries), 'symbol')} of the universe {universe} in quarantine", markup=False)


def show_quarantine_events(events: pd.DataFrame) -> None:
    """Print the events of the quarantine, the oldest first."""
    table = make_table("at (UTC)", "symbol", "event", "rule")
    for row in _rows(events):
        table.add_row(f"{row.at:.16}".replace("T", " "), row.symbol, row.event, row.rule)
    console.print(table)


def show_release(entry: "QuarantineEntry") -> None:
    """Print the effect of a release."""
    console.print(
        f"{entry.symbol} is released: the next run fetches its whole history and accepts it as it is.\n"
        "The prices stored before stay readable with --known-at."
    )


def _price_or_dash(price: float) -> str:
    return "–" if pd.isna(price) else format_price(price)


def _or_dash(text: Any) -> str:
    return "–" if pd.isna(text) else str(text)


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    yield from frame.itertuples()
