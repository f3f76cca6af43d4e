"""The short form of a backtest: sentences for the terminal, Markdown for Prefect."""

from pipeline.outputs import describe_output
from pipeline.report.backtest_report import Backtest
from pipeline.report.evening_markdown import format_cell, format_table
from pipeline.report.output_tables import list_further_sentences
from pipeline.report.tables import score_rows
from pipeline.report.trading_tables import describe_deflated_sharpe

__all__ = ["backtest_markdown", "summary_sentences"]


def summary_sentences(backtest: Backtest) -> dict[str, str]:
    """Return the results next to the verdict, in reading order: one sentence under each name, empty ones left out."""
    sentences = {
        "warning": backtest.unaudited,
        **backtest.tests.sentences,
        "sample size": backtest.tests.size.sentence,
        "groups": _describe_groups(backtest),
        "trading": " ".join(
            filter(None, [backtest.trading.sentence, describe_deflated_sharpe(backtest.trading.deflated)])
        ),
        "not traded": backtest.trading.left_out,
        **{
            f"trading, {describe_output(each)}": view.sentence
            for each, view in backtest.further_trading.items()
        },
        "settings tried": backtest.tried,
        "constituents": backtest.bias,
    }
    return {name: sentence for name, sentence in sentences.items() if sentence}


def backtest_markdown(backtest: Backtest) -> str:
    """Return the backtest in Markdown: the verdict, the network's scores, then one sentence for each other result."""
    scores = backtest.scores[backtest.scores["model"] == backtest.model]
    lines = [
        f"# {backtest.universe}: {backtest.verdict.title}",
        "",
        f"**{format_cell(backtest.verdict.headline)}**",
        "",
        *(f"{format_cell(each)}\n" for each in list_further_sentences(backtest.verdict, backtest.further)),
        *format_table(score_rows(scores)),
        "",
        *(f"- {name}: {format_cell(sentence)}" for name, sentence in summary_sentences(backtest).items()),
        "",
    ]
    return "\n".join(lines)


def _describe_groups(backtest: Backtest) -> str:
    """Return in how many groups of each family the network differs significantly from its baseline (Holm, 5%)."""
    losses = backtest.groups[backtest.groups["metric"] == "log_loss"]
    parts = [
        f"{(rows['adjusted_p'] < 0.05).sum() or 'none'} of {rows['groups'].max()} by {family}"
        for family, rows in losses.groupby("family", sort=False)
        if rows["groups"].max()
    ]
    return f"significantly different from the baseline: {', '.join(parts)} (Holm)." if parts else ""
