"""What the commands print: the same story as the report, for eyes on a terminal and for pipes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.summary import format_interval, format_p_value, format_percent, format_price, format_score

if TYPE_CHECKING:
    from flows.doctor import Finding
    from flows.fetching import Market
    from flows.forecasting import Replay
    from flows.nightly import Evening
    from flows.training import Evaluation
    from pipeline.ledger import Verification
    from pipeline.report import Paths

__all__ = [
    "show_evaluation",
    "show_evening",
    "show_examination",
    "show_market",
    "show_paths",
    "show_record",
    "show_replay",
    "show_verification",
]

_MOST = 20
_PIPE = 160
"""Columns where nobody's terminal says how many there are: whoever reads a file scrolls."""

_console = Console(highlight=False)
if not _console.is_terminal:
    _console = Console(highlight=False, width=_PIPE)


def show_evening(evening: "Evening") -> None:
    """Print the verdict, the forecasts and where the reports lie."""
    report = evening.report
    _console.print()
    _console.print(f"[bold]{escape(report.verdict.sentence)}[/bold]" if report.verdict else "")
    _console.print(
        f"\n{report.universe}: forecasts for [bold]{report.target_session:%A %Y-%m-%d}[/bold] "
        f"from the close of {report.as_of:%Y-%m-%d} ({report.kind}, model {report.model['version']})"
    )
    _console.print(_forecast_table(report.forecasts))
    for row in _rows(report.skipped.head(_MOST)):
        _console.print(f"no forecast for {row.symbol}: {row.reason}", markup=False)
    if evening.settled:
        _console.print(f"{evening.settled} earlier forecasts were settled")
    show_paths(evening.paths)
    _console.print(f"ledger head {report.ledger_head}")


def show_evaluation(evaluation: "Evaluation") -> None:
    """Print the verdict and the scores."""
    _console.print(f"\n[bold]{escape(evaluation.verdict.sentence)}[/bold]")
    scores = evaluation.scores[evaluation.scores["model"] == evaluation.verdict.model]
    table = _table("rows", "metric", "value", "95% interval", "n", "sessions", "best baseline", "p")
    for row in _rows(scores):
        table.add_row(
            row.group,
            row.metric,
            format_score(row.value, row.metric),
            format_interval(row.low, row.high, row.metric, row.sessions),
            f"{row.n:,}",
            f"{row.sessions:,}",
            f"{format_score(row.baseline_value, row.metric)} {row.baseline}",
            format_p_value(row.p_value),
        )
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
    for rule, count in counts.items():
        example = market.findings[market.findings["rule"] == rule].iloc[0]
        _console.print(
            f"  {count:>5}  {rule}   e.g. {example['symbol']} {example['session']:%Y-%m-%d}: {example['detail']}",
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


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    yield from frame.itertuples()


def _forecast_table(forecasts: pd.DataFrame) -> Table:
    shown = forecasts.assign(distance=(forecasts["p_up"] - forecasts["baseline_p_up"]).abs())
    shown = shown.sort_values("distance", ascending=False).head(_MOST)
    title = (
        ""
        if len(shown) == len(forecasts)
        else f"the {len(shown)} of {len(forecasts)} farthest from the base rate"
    )
    table = _table("symbol", "direction", "P(up)", "band", "base rate", "last close", "kind")
    table.title = title or None
    for row in _rows(shown):
        table.add_row(
            row.symbol,
            row.direction,
            format_percent(row.p_up),
            f"{format_percent(row.low)} to {format_percent(row.high)}",
            format_percent(row.baseline_p_up),
            format_price(row.last_close),
            row.kind,
        )
    return table


def _table(*headings: str) -> Table:
    """Return a table that fits 80 columns; in a narrower terminal its cells fold, and nothing is cut off."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
