"""Models per symbol: which symbols have one, in which order, and how a report explains the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from models.errors import ModelError
from pipeline.forecasting.model import FittedEnsemble, SavedEnsemble
from pipeline.forecasting.walk_forward import Walk

__all__ = [
    "arrange",
    "drop_skipped_symbols",
    "explain_unmodelled",
    "symbols_named",
]


def drop_skipped_symbols(walk: Walk, network: FittedEnsemble, symbols: Sequence[str]) -> Walk:
    """Return the walk without the symbols that have no model of their own: all methods forecast the same rows."""
    left_out = [symbols[row] for row in network.left_out]
    if not left_out:
        return walk
    log_line(f"not scored, too little history for a model of their own: {', '.join(left_out)}")
    return replace(
        walk,
        before=walk.before[~walk.before["symbol"].isin(left_out)].reset_index(drop=True),
        test=walk.test[~walk.test["symbol"].isin(left_out)].reset_index(drop=True),
        own=walk.own[~walk.own["symbol"].isin(left_out)].reset_index(drop=True),
    )


@contextmanager
def symbols_named(symbols: Sequence[str]) -> Iterator[None]:
    """Add the symbol to the error where the training of its model diverges: the models know only row numbers."""
    try:
        yield
    except ModelError as error:
        if error.row is not None:
            error.where = f"{symbols[error.row]}, {error.where}"
        raise


def arrange(saved: SavedEnsemble, run: Run, symbols: Sequence[str]) -> SavedEnsemble:
    """Return the model arranged for a block of these symbols, by the symbols' names of today."""
    if not saved.per_symbol:
        return saved
    current = run.universe.current
    rows = {
        current.get(symbol, symbol): row
        for row, symbol in enumerate(saved.extra["symbols"])
        if row not in saved.left_out
    }
    unknown = [symbol for symbol in symbols if symbol not in rows]
    if unknown:
        log_line(f"no model of their own, so no forecast: {', '.join(unknown)}")
    return saved.arranged([rows.get(symbol, -1) for symbol in symbols])


def explain_unmodelled(run: Run, facts: Mapping[str, Any]) -> Callable[[str], str]:
    """Return a function that says why a symbol has no model of its own; empty for a pooled model."""
    if "places" not in facts:
        return lambda symbol: ""
    ours = [run.universe.current.get(symbol, symbol) for symbol in facts["extra"]["symbols"]]
    reasons = {ours[int(row)]: reason for row, reason in facts["left_out"].items()}

    def reason(symbol: str) -> str:
        if symbol in reasons:
            return f"no model of its own: {reasons[symbol]}"
        return "" if symbol in ours else "no model of its own yet: `nextday retrain` trains one"

    return reason
