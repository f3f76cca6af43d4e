"""What `nextday search` prints: the best trials compared with the configured settings, and how to use them."""

import math
from collections.abc import Iterator

from rich.table import Table

from flows.cli.console import console, make_table
from flows.search.search import Search
from pipeline.formatting import count, format_alike
from pipeline.tracking.trial_ranking import Comparison, Ranking, rank, toml_lines
from pipeline.tracking.trials import Parameters

__all__ = ["show_search"]

_MOST = 10


def show_search(found: Search) -> None:
    """Print the best trials, how much the best one improves, and its lines for nextday.toml."""
    if not found.trials:
        console.print("no trial was run: the time was up before the first one")
        return
    ranking = rank(found.trials)
    for line in _summary(found):
        console.print(line, markup=False)
    console.print()
    if ranking.comparisons:
        console.print(_table(ranking, found))
        console.print()
        console.print(ranking.sentence, style="bold", markup=False)
    console.print(found.tried.sentence, markup=False)
    lines = toml_lines(ranking.best.trial.parameters, found.configured) if ranking.comparisons else []
    if lines:
        console.print("\nFor nextday.toml, to score them on the test set; that counts as a trial too:\n")
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)


def _summary(found: Search) -> Iterator[str]:
    states = [trial.state for trial in found.trials]
    ended = ", ".join(
        f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed") if state in states
    )
    yield f"{count(len(states), 'trial')} ({ended}) on prices through {found.as_of:%Y-%m-%d}"
    slices = ", ".join(f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" for first, last in found.slices)
    yield f"validated inside the training data: {slices}; the test set was not used"
    yield f"the base rate has a log loss of {found.base_rate:.5f} there"


def _table(ranking: Ranking, found: Search) -> Table:
    table = make_table("trial", "log loss", "saved", "95% interval", "settings")
    shown = ranking.comparisons[:_MOST]
    configured = next(each for each in ranking.comparisons if each.trial.number == 0)
    for each in shown if configured in shown else [*shown, configured]:
        table.add_row(
            str(each.trial.number),
            f"{each.trial.objective:.5f}",
            *_compare(each),
            _describe(each.trial.parameters, found.configured),
        )
    return table


def _compare(each: Comparison) -> tuple[str, str]:
    """Return the log loss that a trial saves and its interval; empty for the configured settings."""
    if not each.trial.number:
        return "", ""
    saved, low, high = format_alike(each.saved, each.low, each.high, decimals=5)
    return saved, "–" if math.isnan(each.low) else f"{low} to {high}"


def _describe(chosen: Parameters, configured: Parameters) -> str:
    changed = [
        f"{key.partition('.')[2]} {value}" for key, value in chosen.items() if value != configured[key]
    ]
    return ", ".join(changed) or "as configured"
