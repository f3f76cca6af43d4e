"""The short form of a backtest, in plain words: what the terminal prints and Prefect shows."""

from pipeline.report.backtest_report import Backtest
from pipeline.report.evening_markdown import format_cell, format_table
from pipeline.report.tables import score_rows
from pipeline.report.trading_tables import describe_deflated_sharpe

__all__ = ["backtest_markdown", "list_findings"]


def list_findings(backtest: Backtest) -> dict[str, str]:
    """Return what was found beside the verdict, in order, each in plain words under its name."""
    said = {
        "warning": backtest.unaudited,
        **backtest.tests.sentences,
        "sample size": backtest.tests.size.sentence,
        "groups": _tell_groups(backtest),
        "trading": " ".join(
            filter(None, [backtest.trading.sentence, describe_deflated_sharpe(backtest.trading.deflated)])
        ),
        "not traded": backtest.trading.left_out,
        "settings tried": backtest.tried,
        "members": backtest.bias,
    }
    return {name: sentence for name, sentence in said.items() if sentence}


def backtest_markdown(backtest: Backtest) -> str:
    """Return the backtest in Markdown: the verdict, the network's scores, what was found beside them."""
    scores = backtest.scores[backtest.scores["model"] == backtest.model]
    lines = [
        f"# {backtest.universe}: {backtest.verdict.conclusion}",
        "",
        f"**{format_cell(backtest.verdict.sentence)}**",
        "",
        *(f"{format_cell(verdict.sentence)}\n" for verdict in backtest.further.values()),
        *format_table(score_rows(scores)),
        "",
        *(f"- {name}: {format_cell(sentence)}" for name, sentence in list_findings(backtest).items()),
        "",
    ]
    return "\n".join(lines)


def _tell_groups(backtest: Backtest) -> str:
    """Say in how many groups of each family the network differs from its baseline beyond chance."""
    losses = backtest.groups[backtest.groups["metric"] == "log_loss"]
    parts = [
        f"{(rows['adjusted_p'] < 0.05).sum() or 'none'} of {rows['groups'].max()} by {family}"
        for family, rows in losses.groupby("family", sort=False)
        if rows["groups"].max()
    ]
    return f"different from the baseline beyond chance: {', '.join(parts)} (Holm)." if parts else ""
