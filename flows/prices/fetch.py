"""Ask the source for what is missing: a few symbols at once, in chunks that are tried again on their own."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from prefect.tasks import exponential_backoff

from flows.runtime.context import Run
from flows.runtime.progress import bar, log_line
from flows.runtime.progress_bars import Advance
from flows.runtime.tasks import task
from pipeline.errors import SourceError
from pipeline.prices.ingest.fetch_plan import FetchRequest, plan_requests
from pipeline.sources import Fetched

__all__ = ["Answers", "fetch_all", "fetch_prices", "plan_tonight"]

_CHUNK = 25
_MINUTES = 20
"""A try at a chunk may take: 25 symbols, each with the requests' own limits, end long before."""
_RETRIES = 3
_DEAD = 3
"""Failures in a row after which a source is down: asking on would cost a timeout a symbol, all night."""

Answers = dict[str, Fetched]
"""What the source said, by symbol."""


class _UnfinishedError(SourceError):
    """Some symbols could not be had this time; trying again may help."""


def plan_tonight(run: Run) -> dict[str, FetchRequest]:
    """Return what to ask for, by symbol; a source that costs nothing is read whole."""
    symbols, beginning = run.universe.symbols, pd.Timestamp(run.config.prices.start)
    if run.is_simulated and _was_later(run):
        log_line(
            "the clock stands before the newest bar that is stored: nothing is fetched, the past stays as it was known"
        )
        return {}
    if run.source.is_local:
        return dict.fromkeys(symbols, FetchRequest(beginning, is_whole=True))
    return plan_requests(
        run.store,
        run.fetch_log,
        run.calendar,
        run.universe.instruments,
        symbols,
        beginning=beginning,
        last=run.last_closed,
        now=run.now,
    )


def _was_later(run: Run) -> bool:
    """Whether bars are stored that were observed after the given clock."""
    now, bound = pd.Timestamp(run.now), run.store.observed_by()
    if bound is not None and bound <= now:
        return False
    newest = run.store.observed_at()
    return newest is not None and newest > now


def fetch_all(run: Run, plan: Mapping[str, FetchRequest]) -> Answers:
    """Ask the source for every symbol of the plan."""
    symbols, answers = list(plan), dict[str, Fetched]()
    starts = {symbol: asking.start for symbol, asking in plan.items()}
    with bar("fetch prices", len(symbols)) as advance:
        for first in range(0, len(symbols), _CHUNK):
            chunk = symbols[first : first + _CHUNK]
            try:
                fetch_prices(run, chunk, starts, answers, advance)
            except (_UnfinishedError, TimeoutError) as unfinished:
                log_line(str(unfinished))
                if all(symbol not in answers or answers[symbol].outcome == "transient" for symbol in chunk):
                    break
    answers |= {symbol: _not_asked(run, symbol) for symbol in symbols if symbol not in answers}
    _tell(run, answers)
    return answers


@task(
    "fetch prices",
    run_name="fetch prices of {symbols[0]} and what follows",
    timeout=_MINUTES * 60,
    retries=_RETRIES,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=lambda task, run, state: isinstance(
        state.result(raise_on_failure=False), _UnfinishedError
    ),
)
def fetch_prices(
    run: Run,
    symbols: Sequence[str],
    starts: Mapping[str, pd.Timestamp],
    answers: Answers,
    advance: Advance,
) -> None:
    """Fill `answers`; a retry asks only for the symbols whose last answer was transient.

    Raises:
        _UnfinishedError: the network or the vendor failed for some symbols; the others are in `answers`.
    """
    open_ones = [s for s in symbols if s not in answers or answers[s].outcome == "transient"]
    asker = _Asker(run, starts)
    with ThreadPoolExecutor(run.source.threads) as pool:
        for symbol, answer in zip(open_ones, pool.map(asker.ask, open_ones), strict=True):
            if symbol not in answers:
                advance(f"{symbol} {answer.outcome}")
            answers[symbol] = answer
    failed = [symbol for symbol in symbols if answers[symbol].outcome == "transient"]
    if failed:
        raise _UnfinishedError(
            f"{len(failed)} of {len(symbols)} symbols could not be fetched, {failed[0]} for one: "
            f"{answers[failed[0]].reason}"
        )


class _Asker:
    """Asks for one symbol after another, from a few threads; gives up on a source that is down."""

    def __init__(self, run: Run, starts: Mapping[str, pd.Timestamp]) -> None:
        self._run, self._starts, self._in_a_row, self._lock = run, starts, 0, threading.Lock()

    def ask(self, symbol: str) -> Fetched:
        """Return the symbol's answer."""
        run = self._run
        if self._in_a_row >= _DEAD:
            return _not_asked(run, symbol)
        answer = run.source.fetch(symbol, self._starts[symbol], run.last_closed, run.clock())
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if answer.outcome == "transient" else 0
        return answer


def _not_asked(run: Run, symbol: str) -> Fetched:
    return Fetched(symbol, "transient", run.now, reason="not asked: the source was down")


def _tell(run: Run, answers: Answers) -> None:
    said = [
        f"{n} {name}"
        for name, n in pd.Series([answer.outcome for answer in answers.values()]).value_counts().items()
    ]
    finished = len(run.universe.symbols) - len(answers)
    said += [f"{finished} had already what there can be tonight"] if finished else []
    log_line(f"fetched from {run.source.name}: {', '.join(said)}")
