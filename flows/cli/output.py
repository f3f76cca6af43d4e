"""What the commands print: the content of the report, for a terminal and for pipes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.cli.console import console, make_table
from flows.cli.publishing.answers import answer_backtest, answer_evening, answer_health
from flows.runtime.wrapping import wrap_words
from pipeline.formatting import count, format_day, format_moment, format_percent, format_price, format_return
from pipeline.outputs import (
    MAIN,
    Output,
    describe_in_sentence,
    describe_output,
    explain_outputs,
    list_outputs,
)
from pipeline.report.evening_report import Report
from pipeline.report.facts import collect_key_facts
from pipeline.report.output_tables import (
    count_forecasts,
    forecast_cells,
    format_base_rate,
    list_further_sentences,
    sort_by_distance,
)
from pipeline.report.tables import count_directions, describe_added, describe_void, score_rows
from pipeline.schema import is_void

if TYPE_CHECKING:
    from flows.backtest import Backtested
    from flows.evening.forecasting import Replay
    from flows.evening.retraining import Retrained
    from flows.nightly import Evening
    from flows.operations.health import HealthCheck
    from flows.prices.update import PriceStatus
    from flows.training.evaluation import Evaluation
    from pipeline.ledger.verification import Verification
    from pipeline.report.backtest_report import Backtest
    from pipeline.report.files import Paths

__all__ = [
    "show_backtest",
    "show_evaluation",
    "show_evening",
    "show_health",
    "show_paths",
    "show_price_status",
    "show_record",
    "show_replay",
    "show_retrained",
    "show_ui",
    "show_verification",
]

_MOST, _FEW = 20, 5


def show_evening(evening: "Evening", *, as_json: bool = False) -> None:
    """Print the verdict, the forecasts, the age of prices and model, and the paths of the reports."""
    if as_json:
        answer_evening(evening)
        return
    report = evening.report
    console.print()
    lost = next((note for note in report.notes if note.startswith("No score is shown")), "Not scored yet")
    console.print(report.verdict.headline if report.verdict else lost, style="bold", markup=False)
    for sentence in list_further_sentences(report.verdict, report.further):
        console.print(sentence, markup=False)
    console.print(
        f"\n{report.universe}: {count_forecasts(report.forecasts)} {_preposition(report)} "
        f"[bold]{report.target_session:%A %Y-%m-%d}[/bold] from the close of {format_day(report.as_of)}, "
        f"{report.kind_and_cause}, issued {format_moment(report.issued_at)}: {count_directions(report.forecasts)}\n"
    )
    console.print(_forecast_table(report.forecasts, report.last_call))
    for note in explain_outputs(report.outputs):
        console.print(note, markup=False)
    console.print()
    if report.beside_base_rate:
        console.print(f"{report.beside_base_rate}\n", markup=False)
    for row in _rows(report.skipped.head(_FEW)):
        console.print(f"no forecast for {row.symbol}: {row.reason}", markup=False)
    if len(report.skipped) > _FEW:
        console.print(f"no forecast for {len(report.skipped) - _FEW} more: the page lists them")
    if evening.settled:
        console.print(f"{count(evening.settled, 'earlier forecast')} settled")
    for each in report.challengers:
        console.print(each.sentence, markup=False)
    _show_key_facts(report)
    console.print()
    show_paths(evening.paths)


def _preposition(report: Report) -> str:
    return "for" if len(report.outputs) == 1 else "the first for"


def _show_key_facts(report: Report) -> None:
    facts = collect_key_facts(report)
    grid = Table.grid(padding=(0, 2))
    for fact in facts:
        grid.add_row(fact.name, Text(f"{fact.text}; {fact.more}"))
        if fact.warning:
            grid.add_row("", Text(fact.warning, style="bold"))
    console.print(grid)
    for fact in facts:
        if fact.command:  # on its own line, unbroken, to be copied
            console.print(f"  {fact.command}", markup=False, soft_wrap=True)


def show_evaluation(evaluation: "Evaluation | Backtest") -> None:
    """Print the verdict and the scores."""
    console.print()
    console.print(evaluation.verdict.headline, style="bold", markup=False)
    for sentence in list_further_sentences(evaluation.verdict, evaluation.further):
        console.print(sentence, markup=False)
    console.print()
    scores = evaluation.scores[evaluation.scores["model"] == evaluation.verdict.model]
    lines = score_rows(scores)
    table = make_table(*lines[0]) if lines else Table()
    for line in lines:
        table.add_row(*map(escape, line.values()))
    console.print(table)


def show_retrained(retrained: "Retrained") -> None:
    """Print the evaluation of a training, and what became of its model."""
    if retrained.evaluation:
        show_evaluation(retrained.evaluation)
    console.print()
    console.print(retrained.sentence, markup=False)


def show_backtest(backtested: "Backtested", *, as_json: bool = False) -> None:
    """Print the verdict, the scores, the further results, and the paths of the files."""
    if as_json:
        answer_backtest(backtested)
        return
    from pipeline.report.backtest_markdown import (
        summary_sentences,  # takes a second to import; no other command needs it
    )

    show_evaluation(backtested.backtest)
    console.print()
    for name, sentence in summary_sentences(backtested.backtest).items():
        console.print(f"[bold]{name}[/bold]: {escape(sentence)}")
    console.print()
    for path in backtested.paths.values():
        console.print(f"  {path}", markup=False, soft_wrap=True)


def show_price_status(status: "PriceStatus") -> None:
    """Print the last session of the prices, which members lack a bar, and what the checks found."""
    from flows.prices.missing import summarize_findings

    console.print(
        f"prices reach {status.as_of:%Y-%m-%d}: {status.covered} of {status.members} constituents have a bar "
        f"(version {status.seq})"
    )
    for symbol, reason in [*status.missing.items()][:_MOST]:
        console.print(f"  {symbol}: {reason}", markup=False)
    if status.findings.empty:
        return
    console.print(f"{count(len(status.findings), 'finding')}:")
    for line in summarize_findings(status.findings):
        console.print(f"  {line}", markup=False)


def show_replay(replay: "Replay") -> None:
    """Print whether the recomputed rows equal the sealed ones, and each that does not."""
    worst = replay.rows["difference"].abs().max()
    if replay.is_same:
        console.print(f"{len(replay.rows)} forecasts recomputed: the same (largest difference {worst:.1e})")
        return
    console.print(f"{len(replay.rows)} forecasts recomputed; these differ:")
    differing = replay.rows[(replay.rows["difference"].abs() > 1e-6) | ~replay.rows["same_direction"]]
    for row in _rows(differing):
        ahead = describe_in_sentence(Output(row.target, row.horizon))
        console.print(
            f"  {row.symbol}{ahead}: sealed {row.p_up:.8f}, recomputed {row.replayed:.8f}", markup=False
        )


def show_paths(paths: "Paths") -> None:
    """Print the paths of the reports, one per line, so that a terminal can open them."""
    site = [paths.site] if paths.site.exists() else []
    for path in (paths.html, paths.forecast_csv, paths.scores_csv, paths.latest_csv, *site):
        console.print(f"  {path}", markup=False, soft_wrap=True)


def show_record(record: pd.DataFrame, last: int) -> None:
    """Print the newest sealed forecasts with their outcomes."""
    if record.empty:
        console.print("no forecast of this universe yet")
        return
    newest = sorted(record["as_of"].unique())[-last:]
    shown = record[record["as_of"].isin(newest)]
    console.print(f"{count(len(shown), 'forecast')}: {count_directions(shown)}")
    several = list_outputs(shown) != [MAIN]
    names = ["as_of", "for", "symbol", *(["output"] if several else [])]
    table = make_table(*names, "kind", "P(up)", "issued", "outcome", "return", "model")
    for row in _rows(shown.assign(is_void=is_void(shown))):
        output = Output(row.target, row.horizon)
        above, below, _ = output.directions
        without = "open" if pd.isna(row.settled_at) else "void" if row.is_void else "no label"
        outcome = {1.0: above, 0.0: below}.get(row.outcome, without)
        table.add_row(
            f"{row.as_of:%Y-%m-%d}",
            f"{row.target_session:%Y-%m-%d}",
            row.symbol,
            *([describe_output(output)] if several else []),
            row.kind,
            format_percent(row.p_up),
            row.direction,
            outcome,
            format_return(row.realized_return),
            row.model_version[:8],
        )
    console.print(table)
    for said in filter(None, (describe_void(shown), describe_added(shown))):
        console.print(said, markup=False)


def show_verification(verification: "Verification") -> None:
    """Print whether the seal is intact, and every problem."""
    console.print(
        f"{verification.batches} batches, {verification.forecasts} forecasts, {verification.outcomes} outcomes"
    )
    for problem in verification.problems:
        console.print(f"  {problem}", markup=False)
    for beginning in verification.beginnings:
        console.print(f"  {beginning}", markup=False)
    console.print("the seal is intact" if verification.ok else "the seal is broken")
    console.print(f"head {verification.head.hash}", markup=False, soft_wrap=True)


def show_ui(page: str, model: str, *, is_started: bool = True) -> None:
    """Print the address of MLflow's pages, and what is worth a look there.

    Args:
        page: The address.
        model: The model's name in scores.
        is_started: Whether this process serves them.
    """
    console.print(
        f"MLflow{', stop it with Ctrl+C' if is_started else ''}:\n\n  {page}\n", markup=False, soft_wrap=True
    )
    grid = Table.grid(padding=(0, 2))
    metrics = ", ".join(f"{model}.{name}" for name in ("log_loss", "hit_rate", "mcc", "auc"))
    grid.add_row("columns", f"worth a look: Metrics {metrics}; Tags record, kind, verdict, timing, picking")
    grid.add_row(
        "metrics",
        f"of a training: search its charts for ^{model} to see its own scores; baselines/* are those of the others, "
        "details/* intervals and counts, score/* and champion/* the epochs of each ensemble member",
    )
    grid.add_row("filter", 'tags.record = "training", "forecast" or "backtest"')
    console.print(grid)


def show_health(checks: "list[HealthCheck]", *, as_json: bool = False) -> None:
    """Print every check, and the fix of each that failed."""
    if as_json:
        answer_health(checks)
        return
    for check in checks:
        _print_wrapped(f"{'OK ' if check.is_passed else 'FIX'}  {check.what}")
        if not check.is_passed:
            _print_wrapped(f"     {check.fix}")


def _print_wrapped(text: str) -> None:
    """Print lines that may hold commands to copy; a terminal would break them anywhere."""
    console.print(
        wrap_words(text, console.width) if console.is_terminal else text, markup=False, soft_wrap=True
    )


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    yield from frame.itertuples()


def _forecast_table(forecasts: pd.DataFrame, last_call: dict[str, str]) -> Table:
    if list_outputs(forecasts) != [MAIN]:
        return _output_table(forecasts)
    shown = sort_by_distance(forecasts).head(_MOST)
    table = make_table(
        "symbol",
        "direction",
        "P(up)",
        "band",
        "base rate",
        "last close",
        *(["last call"] if last_call else []),
    )
    if len(shown) < len(forecasts):
        table.title = f"the {len(shown)} of {len(forecasts):,} farthest from the base rate"
    for row in shown.to_dict("records"):
        table.add_row(
            row["symbol"],
            row["direction"],
            format_percent(row["p_up"]),
            f"{format_percent(row['low'])} to {format_percent(row['high'])}",
            format_base_rate(row),
            format_price(row["last_close"]),
            *([last_call.get(row["symbol"]) or "–"] if last_call else []),
        )
    return table


def _output_table(forecasts: pd.DataFrame) -> Table:
    rows = [{name: cell for name, cell in row.items() if name != "kind"} for row in forecast_cells(forecasts)]
    table = make_table(*rows[0])
    table.title = "direction, P(up) and in brackets the base rate"
    if len(rows) > _MOST:
        first = describe_output(list_outputs(forecasts)[0])
        table.title += f"; the {_MOST} of {len(rows):,} symbols farthest from it ({first})"
    for row in rows[:_MOST]:
        table.add_row(*map(escape, row.values()))
    return table
