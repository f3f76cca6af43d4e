"""What follows where each symbol has a model of its own: who has one, in which order, and what a report says of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from models.errors import ModelError
from pipeline.forecasting.walk_forward import Walk

__all__ = [
    "arrange",
    "drop_skipped_symbols",
    "explain_unmodelled",
    "symbols_named",
]


def drop_skipped_symbols(walk: Walk, network: Any, symbols: Sequence[str]) -> Walk:
    """Return the walk without the symbols that have no model of their own: all methods stand on the same rows."""
    left_out = [symbols[row] for row in getattr(network, "left_out", {})]
    if not left_out:
        return walk
    log_line(f"not scored, too little history for a model of their own: {', '.join(left_out)}")
    return replace(
        walk,
        before=walk.before[~walk.before["symbol"].isin(left_out)].reset_index(drop=True),
        test=walk.test[~walk.test["symbol"].isin(left_out)].reset_index(drop=True),
    )


@contextmanager
def symbols_named(symbols: Sequence[str]) -> Iterator[None]:
    """Name the symbol in the error where the training of its own model diverges: the models know rows alone."""
    try:
        yield
    except ModelError as error:
        row = getattr(error, "row", None)
        if row is not None:
            error.where = f"{symbols[row]}, {error.where}"
        raise


def arrange(fitted: Any, run: Run, symbols: Sequence[str]) -> Any:
    """Return the model as it reads the block: one that has an ensemble a symbol finds each symbol's own."""
    if not hasattr(fitted, "arranged"):
        return fitted
    current = run.universe.current
    rows = {
        current.get(symbol, symbol): row
        for row, symbol in enumerate(fitted.extra["symbols"])
        if row not in fitted.left_out
    }
    unknown = [symbol for symbol in symbols if symbol not in rows]
    if unknown:
        log_line(f"no model of their own, so no forecast: {', '.join(unknown)}")
    return fitted.arranged([rows.get(symbol, -1) for symbol in symbols])


def explain_unmodelled(run: Run, facts: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what says why a symbol has no model of its own; a pooled model needs none."""
    if "places" not in facts:
        return lambda symbol: ""
    ours = [run.universe.current.get(symbol, symbol) for symbol in facts["extra"]["symbols"]]
    reasons = {ours[int(row)]: reason for row, reason in facts["left_out"].items()}

    def reason(symbol: str) -> str:
        if symbol in reasons:
            return f"no model of its own: {reasons[symbol]}"
        return "" if symbol in ours else "no model of its own yet: `nextday retrain` trains one"

    return reason
