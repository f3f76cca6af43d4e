"""Fetch missing prices from the source: a few symbols at once, in chunks that are retried separately."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import bar, log_line
from flows.runtime.progress_bars import Advance
from flows.runtime.tasks import Retries, task
from pipeline.errors import SourceError
from pipeline.prices.ingest.fetch_plan import FetchRequest, plan_requests
from pipeline.sources import Fetched

__all__ = ["Answers", "fetch_all", "fetch_prices", "plan_tonight"]

_CHUNK = 25
_MINUTES = 20
"""Time limit of one try at a chunk: 25 symbols, each within its requests' own limits, take far less."""
_MAX_FAILURES = 3
"""Failures in a row after which the source counts as down: going on would cost one timeout per symbol."""

Answers = dict[str, Fetched]
"""The source's answers, by symbol."""


class _UnfinishedError(SourceError):
    """Some symbols could not be fetched this time; a retry may help."""


def plan_tonight(run: Run) -> dict[str, FetchRequest]:
    """Return the requests for tonight, by symbol; a local source is read whole."""
    symbols, beginning = run.universe.symbols, pd.Timestamp(run.config.prices.start)
    if run.is_simulated and _has_later_bars(run):
        log_line(
            "the clock is before the newest stored bar: nothing is fetched, the past stays as it was known"
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


def _has_later_bars(run: Run) -> bool:
    """Whether bars are stored that were observed after the given clock."""
    now, bound = pd.Timestamp(run.now), run.store.observed_by()
    if bound is not None and bound <= now:
        return False
    newest = run.store.observed_at()
    return newest is not None and newest > now


def fetch_all(run: Run, plan: Mapping[str, FetchRequest]) -> Answers:
    """Fetch every symbol of the plan from the source."""
    symbols, answers = list(plan), dict[str, Fetched]()
    starts = {symbol: request.start for symbol, request in plan.items()}
    with bar("fetch prices", len(symbols)) as advance:
        for first in range(0, len(symbols), _CHUNK):
            chunk = symbols[first : first + _CHUNK]
            try:
                fetch_prices(run, chunk, starts, answers, advance)
            except (_UnfinishedError, TimeoutError) as unfinished:
                log_line(str(unfinished))
                if all(symbol not in answers or answers[symbol].outcome == "transient" for symbol in chunk):
                    break
    answers |= {symbol: _not_fetched(run, symbol) for symbol in symbols if symbol not in answers}
    _log_outcomes(run, answers)
    return answers


@task(
    "fetch prices",
    run_name="fetch prices from {symbols[0]} on",
    timeout=_MINUTES * 60,
    retries=Retries(_UnfinishedError, delays=(2.0, 4.0, 8.0)),
)
def fetch_prices(
    run: Run,
    symbols: Sequence[str],
    starts: Mapping[str, pd.Timestamp],
    answers: Answers,
    advance: Advance,
) -> None:
    """Fill `answers`; a retry fetches only the symbols whose last answer was transient.

    Raises:
        _UnfinishedError: the network or the vendor failed for some symbols; the others are in `answers`.
    """
    pending = [s for s in symbols if s not in answers or answers[s].outcome == "transient"]
    fetcher = _Fetcher(run, starts)
    with ThreadPoolExecutor(run.source.threads) as pool:
        for symbol, answer in zip(pending, pool.map(fetcher.fetch, pending), strict=True):
            if symbol not in answers:
                advance(f"{symbol} {answer.outcome}")
            answers[symbol] = answer
    failed = [symbol for symbol in symbols if answers[symbol].outcome == "transient"]
    if failed:
        raise _UnfinishedError(
            f"{len(failed)} of {len(symbols)} symbols could not be fetched, e.g. {failed[0]}: "
            f"{answers[failed[0]].reason}"
        )


class _Fetcher:
    """Fetches one symbol after another, from a few threads; gives up on a source that is down."""

    def __init__(self, run: Run, starts: Mapping[str, pd.Timestamp]) -> None:
        self._run, self._starts, self._failures, self._lock = run, starts, 0, threading.Lock()

    def fetch(self, symbol: str) -> Fetched:
        """Return the answer for the symbol."""
        run = self._run
        if self._failures >= _MAX_FAILURES:
            return _not_fetched(run, symbol)
        answer = run.source.fetch(symbol, self._starts[symbol], run.last_closed, run.clock())
        with self._lock:
            self._failures = self._failures + 1 if answer.outcome == "transient" else 0
        return answer


def _not_fetched(run: Run, symbol: str) -> Fetched:
    return Fetched(symbol, "transient", run.now, reason="not fetched: the source was down")


def _log_outcomes(run: Run, answers: Answers) -> None:
    outcomes = [
        f"{n} {name}"
        for name, n in pd.Series([answer.outcome for answer in answers.values()]).value_counts().items()
    ]
    finished = len(run.universe.symbols) - len(answers)
    outcomes += [f"{finished} already complete for tonight"] if finished else []
    log_line(f"fetched from {run.source.name}: {', '.join(outcomes)}")
