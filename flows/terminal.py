"""What the commands print: the same story as the report, for eyes on a terminal and for pipes."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.summary import Report, collect_key_facts, score_rows, sort_by_distance
from pipeline.wording import count, format_day, format_moment, format_percent, format_price

if TYPE_CHECKING:
    from flows.doctor import Finding
    from flows.forecasting import Replay
    from flows.market import Market
    from flows.nightly import Evening
    from flows.training import Evaluation
    from pipeline.ledger import Verification
    from pipeline.price_findings import PriceFindings
    from pipeline.price_history import SymbolHistory
    from pipeline.report import Paths

__all__ = [
    "show_evaluation",
    "show_evening",
    "show_examination",
    "show_export",
    "show_history",
    "show_market",
    "show_paths",
    "show_price_findings",
    "show_record",
    "show_replay",
    "show_verification",
]

_MOST, _FEW = 20, 5
_WIDE = 120
"""Columns from which a table of bars has room for open, high, low and volume."""
_NUMBERS = {
    "open",
    "high",
    "low",
    "close",
    "adjusted",
    "volume",
    "div.",
    "split",
    "bars",
    "of",
    "coverage",
    "P(up)",
    "band",
    "base rate",
    "last close",
    "return",
    "value",
    "95% interval",
    "n",
    "sessions",
    "p",
}
_PIPE = 160
"""Columns where nobody's terminal says how many there are: whoever reads a file scrolls."""

_console = Console(highlight=False)
if not _console.is_terminal:
    _console = Console(highlight=False, width=_PIPE)


def show_evening(evening: "Evening") -> None:
    """Print the verdict, the forecasts, how fresh and how old everything is, and where the reports lie."""
    report = evening.report
    _console.print()
    _console.print(
        report.verdict.sentence if report.verdict else "Not scored yet", style="bold", markup=False
    )
    _console.print(
        f"\n{report.universe}: {count(len(report.forecasts), 'forecast')} for "
        f"[bold]{report.target_session:%A %Y-%m-%d}[/bold] from the close of {format_day(report.as_of)}, "
        f"{report.kind}, issued {format_moment(report.issued_at)}\n"
    )
    _console.print(_forecast_table(report.forecasts))
    _console.print()
    for row in _rows(report.skipped.head(_FEW)):
        _console.print(f"no forecast for {row.symbol}: {row.reason}", markup=False)
    if len(report.skipped) > _FEW:
        _console.print(f"no forecast for {len(report.skipped) - _FEW} more: the page names them")
    if evening.settled:
        _console.print(f"{count(evening.settled, 'earlier forecast')} settled")
    _show_key_facts(report)
    _console.print()
    show_paths(evening.paths)


def _show_key_facts(report: Report) -> None:
    facts = collect_key_facts(report)
    grid = Table.grid(padding=(0, 2))
    for fact in facts:
        grid.add_row(fact.name, Text(f"{fact.text}; {fact.more}"))
        if fact.warning:
            grid.add_row("", Text(fact.warning, style="bold"))
    _console.print(grid)
    for fact in facts:
        if fact.command:  # on a line of its own, unbroken: it is there to be copied
            _console.print(f"  {fact.command}", markup=False, soft_wrap=True)


def show_evaluation(evaluation: "Evaluation") -> None:
    """Print the verdict and the scores."""
    _console.print()
    _console.print(evaluation.verdict.sentence, style="bold", markup=False)
    _console.print()
    scores = evaluation.scores[evaluation.scores["model"] == evaluation.verdict.model]
    lines = score_rows(scores)
    table = _table(*lines[0]) if lines else Table()
    for line in lines:
        table.add_row(*map(escape, line.values()))
    _console.print(table)


def show_market(market: "Market") -> None:
    """Print how far the prices reach and what was found."""
    _console.print(
        f"prices reach {market.as_of:%Y-%m-%d}: {market.covered} of {market.members} members have a bar "
        f"(version {market.seq})"
    )
    for symbol, reason in [*market.missing.items()][:_MOST]:
        _console.print(f"  {symbol}: {reason}", markup=False)
    if market.findings.empty:
        return
    counts = market.findings.groupby("rule").size().sort_values(ascending=False)
    _console.print(f"{len(market.findings)} findings; those bars were kept out:")
    for rule, often in counts.items():
        example = market.findings[market.findings["rule"] == rule].iloc[0]
        _console.print(
            f"  {often:>5}  {rule}   e.g. {example['symbol']} {example['session']:%Y-%m-%d}: {example['detail']}",
            markup=False,
        )


def show_replay(made: "Replay") -> None:
    """Print whether the sealed rows could be made again, and each that could not."""
    worst = made.rows["difference"].abs().max()
    if made.is_same:
        _console.print(f"{len(made.rows)} forecasts made again: the same (largest difference {worst:.1e})")
        return
    _console.print(f"{len(made.rows)} forecasts made again; these differ:")
    differing = made.rows[(made.rows["difference"].abs() > 1e-6) | ~made.rows["same_direction"]]
    for row in _rows(differing):
        _console.print(f"  {row.symbol}: sealed {row.p_up:.8f}, made again {row.replayed:.8f}", markup=False)


def show_paths(paths: "Paths") -> None:
    """Print where the reports lie, one a line, so that a terminal can open them."""
    for path in (paths.html, paths.forecast_csv, paths.scores_csv, paths.latest_csv):
        _console.print(f"  {path}", markup=False, soft_wrap=True)


def show_record(record: pd.DataFrame, last: int) -> None:
    """Print the newest sealed forecasts beside what happened."""
    if record.empty:
        _console.print("no forecast of this universe yet")
        return
    newest = sorted(record["as_of"].unique())[-last:]
    table = _table("as_of", "for", "symbol", "kind", "P(up)", "said", "happened", "return", "model")
    for row in _rows(record[record["as_of"].isin(newest)]):
        happened = {1.0: "up", 0.0: "down"}.get(
            row.outcome, "open" if pd.isna(row.settled_at) else "no label"
        )
        change = "–" if pd.isna(row.realized_return) else f"{row.realized_return:+.2%}"
        table.add_row(
            f"{row.as_of:%Y-%m-%d}",
            f"{row.target_session:%Y-%m-%d}",
            row.symbol,
            row.kind,
            format_percent(row.p_up),
            row.direction,
            happened,
            change,
            row.model_version[:8],
        )
    _console.print(table)


def show_verification(verification: "Verification") -> None:
    """Print whether the seal holds, and every problem."""
    _console.print(
        f"{verification.batches} batches, {verification.forecasts} forecasts, {verification.outcomes} outcomes"
    )
    for problem in verification.problems:
        _console.print(f"  {problem}", markup=False)
    _console.print("the seal holds" if verification.ok else "the seal is broken")
    _console.print(f"head {verification.head.hash}", markup=False, soft_wrap=True)


def show_examination(found: "list[Finding]") -> None:
    """Print every item, and for each that is not well the way to mend it."""
    for item in found:
        _console.print(f"{'ok  ' if item.is_well else 'MEND'}  {item.what}", markup=False, soft_wrap=True)
        if not item.is_well:
            _console.print(f"      {item.way_out}", markup=False, soft_wrap=True)


def show_history(history: "SymbolHistory", universe: str, known_at: datetime | None, last: int) -> None:
    """Print the newest `last` bars, in which units they are, and what became of them after `known_at`."""
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
        _console.print(line, markup=False)
    _console.print()
    _console.print(_bar_table(shown))
    if _console.width < _WIDE:
        _console.print(f"open, high, low and volume stand in a terminal of {_WIDE} columns, and in pipes")
    if known_at is not None:
        _show_revised(history.revised)


def _bar_table(bars: pd.DataFrame) -> Table:
    is_wide = _console.width >= _WIDE
    more = ("open", "high", "low") if is_wide else ()
    table = _table(
        "session", *more, "close", *(["volume"] if is_wide else []),
        "adjusted", "div.", "split", "status", "observed (UTC)",
    )  # fmt: skip
    for row in _rows(bars):
        # Rounded up, so that the time shown is one at which the bar was known.
        observed = row.observed_at.ceil("min")
        table.add_row(
            f"{row.session:%Y-%m-%d}",
            *(format_price(getattr(row, name)) for name in more),
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
    _console.print()
    if revised.empty:
        _console.print("none of these bars was revised later")
        return
    _console.print(f"revised later ({count(len(revised), 'row')} superseded a bar of then):")
    grid = Table.grid(padding=(0, 2))
    newest = revised.sort_values(["session", "seq"], ascending=False)
    for row in _rows(newest.head(_MOST)):
        told = f"{row.change}; observed {row.observed_at:%Y-%m-%d %H:%M} UTC, version {row.seq}"
        grid.add_row(f"  {row.session:%Y-%m-%d}", Text(told))
    _console.print(grid)
    if len(revised) > _MOST:
        _console.print(f"  and {len(revised) - _MOST:,} of earlier sessions")


def show_price_findings(found: "PriceFindings", universe: str, *, everything: bool) -> None:
    """Print how well each symbol is covered, and every finding: those that need a person are marked MEND."""
    coverage, rows = found.coverage, found.rows
    _console.print(
        f"prices of the universe {universe} to {found.newest:%Y-%m-%d}: {count(len(coverage), 'symbol')}, "
        f"{count(int(coverage['bars'].sum()), 'bar')}",
        markup=False,
    )
    _console.print(
        f"{count(found.superseded, 'row')} superseded, {found.quiet:,} of them settled with no other change"
    )
    _console.print()
    _console.print(_coverage_table(coverage if everything else coverage.head(_MOST)))
    _console.print()
    shown = rows if everything else _newest_findings(rows)
    grid = Table.grid(padding=(0, 2))
    for row in _rows(shown):
        title = f"{row.symbol} {row.session:%Y-%m-%d}: {row.rule}"
        grid.add_row("MEND" if row.needs_person else "note", Text(f"{title}\n{row.evidence}\n{row.done}"))
    _console.print(grid)
    if len(shown) < len(rows):
        _console.print(f"{len(rows) - len(shown):,} more findings: nextday prices check --all names them")
    people = int(rows["needs_person"].sum())
    _console.print(f"{count(len(rows), 'finding')}, {people:,} of them for a person to look at")


def _newest_findings(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the newest few of each rule; all of those that need a person, in the order of `rows`."""
    newest = rows.sort_values("session", ascending=False).groupby("rule").head(_FEW)
    return rows[rows["needs_person"] | rows.index.isin(newest.index)]


def _coverage_table(coverage: pd.DataFrame) -> Table:
    table = _table("symbol", "first", "last", "bars", "of", "coverage")
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
    """Print how many bars were written, and where to."""
    _console.print(f"{count(bars, 'bar')} written to {path}", markup=False, soft_wrap=True)


def _or_dash(text: Any) -> str:
    return "–" if pd.isna(text) else str(text)


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    yield from frame.itertuples()


def _forecast_table(forecasts: pd.DataFrame) -> Table:
    shown = sort_by_distance(forecasts).head(_MOST)
    table = _table("symbol", "direction", "P(up)", "band", "base rate", "last close")
    if len(shown) < len(forecasts):
        table.title = f"the {len(shown)} of {len(forecasts):,} farthest from the base rate"
    for row in _rows(shown):
        table.add_row(
            row.symbol,
            row.direction,
            format_percent(row.p_up),
            f"{format_percent(row.low)} to {format_percent(row.high)}",
            format_percent(row.baseline_p_up),
            format_price(row.last_close),
        )
    return table


def _table(*headings: str) -> Table:
    """Return a table that fits 80 columns; in a narrower terminal its cells fold, and nothing is cut off."""
    table = Table(
        box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False, title_justify="left"
    )
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in _NUMBERS else "left")
    return table
