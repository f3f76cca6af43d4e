"""Fetch missing prices from the source: a few symbols at once, in chunks that are retried separately."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pandas as pd

from flows.runtime.context import Run
from flows.runtime.progress import bar, log_line
from flows.runtime.progress_bars import Advance
from flows.runtime.tasks import Retries, task
from pipeline.errors import SourceError
from pipeline.prices.ingest.fetch_plan import FetchRequest, plan_requests
from pipeline.sources import Fetched

__all__ = ["Answers", "describe_answers", "fetch_all", "fetch_prices", "plan_tonight"]

_CHUNK, _LOCAL_CHUNK = 25, 1000
"""Symbols of a task run; a local file is in memory after its first symbol, and more task runs would only cost time."""
_MOST = 5
"""Faulty symbols that are named."""
_MINUTES = 20
"""Time limit of one try at a chunk: its symbols, each within its requests' own limits, take far less."""
_MAX_FAILURES = 3
"""Alike failures in a row after which the source counts as down: going on would cost one timeout per symbol."""

_FAILURES = ("transient", "bad_payload")
_NOT_FETCHED = "not fetched: the source was down"

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
    symbols = list(plan)
    size = _LOCAL_CHUNK if run.source.is_local else _CHUNK
    with bar("fetch context" if run.is_context else "fetch prices", len(symbols)) as advance:
        fetcher = _Fetcher(run, {symbol: request.start for symbol, request in plan.items()}, advance)
        answers = fetcher.answers
        for first in range(0, len(symbols), size):
            chunk = symbols[first : first + size]
            try:
                fetch_prices(fetcher, chunk)
            except (_UnfinishedError, TimeoutError) as unfinished:
                log_line(str(unfinished))
                if all(symbol not in answers or answers[symbol].outcome in _FAILURES for symbol in chunk):
                    break
    answers |= {symbol: _not_fetched(run, symbol) for symbol in symbols if symbol not in answers}
    for line in describe_answers(run, answers):
        log_line(line)
    return answers


def _name_fetch(parameters: Mapping[str, Any]) -> str:
    symbols = parameters["symbols"]
    return f"fetch prices of {symbols[0]}" + (f" and {len(symbols) - 1} more" if len(symbols) > 1 else "")


@task(
    "fetch prices",
    run_name=_name_fetch,
    timeout=_MINUTES * 60,
    retries=Retries(_UnfinishedError, delays=(2.0, 4.0, 8.0)),
)
def fetch_prices(fetcher: "_Fetcher", symbols: Sequence[str]) -> None:
    """Fill the fetcher's answers; a retry fetches only the symbols whose last answer was transient.

    The answers lie in an object that Prefect does not look into: of a dictionary it would visit each one in every task
    run. While the source counts as down, one symbol is requested alone, and the others only if that succeeds.

    Raises:
        _UnfinishedError: the network or the vendor failed for some symbols; the others are in `answers`.
    """
    answers = fetcher.answers
    pending = [s for s in symbols if s not in answers or answers[s].outcome == "transient"]
    # Symbols that the source was never asked for come first: they show best whether it is back.
    pending.sort(key=lambda s: s in answers and answers[s].reason != _NOT_FETCHED)
    first = [fetcher.ask(symbol) for symbol in pending[:1]] if fetcher.is_source_down else []
    with ThreadPoolExecutor(fetcher.threads) as pool:
        others = pool.map(fetcher.fetch, pending[len(first) :])
        for symbol, answer in zip(pending, chain(first, others), strict=True):
            if symbol not in answers:
                fetcher.advance(f"{symbol} {answer.outcome}")
            if symbol not in answers or answer.reason != _NOT_FETCHED:  # an earlier failure says more
                answers[symbol] = answer
    failed = [symbol for symbol in symbols if answers[symbol].outcome == "transient"]
    if failed:
        raise _UnfinishedError(
            f"{len(failed)} of {len(symbols)} symbols could not be fetched, e.g. {failed[0]}: "
            f"{answers[failed[0]].reason}"
        )


class _Breaker:
    """Counts alike failures in a row, from a few threads: after a few of them the source counts as down.

    Failures of the network or the vendor are all alike; answers that cannot be read are where they read the same.
    """

    def __init__(self) -> None:
        self._failures, self._cause, self._lock = 0, "", threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the source counts as down."""
        return self._failures >= _MAX_FAILURES

    def note(self, answer: Fetched) -> None:
        """Count an answer; one that is no failure closes the breaker."""
        cause = answer.reason if answer.outcome == "bad_payload" else answer.outcome
        with self._lock:
            is_alike = self._failures == 0 or cause == self._cause
            self._failures = 0 if answer.outcome not in _FAILURES else self._failures + 1 if is_alike else 1
            self._cause = cause


class _Fetcher:
    """Fetches one symbol after another, from a few threads; gives up on a source that is down.

    Attributes:
        answers: What came back, by symbol.
        threads: How many symbols are fetched at once.
        advance: Moves the bar.
    """

    def __init__(self, run: Run, starts: Mapping[str, pd.Timestamp], advance: Advance) -> None:
        self.answers, self.threads, self.advance = Answers(), run.source.threads, advance
        self._run, self._starts, self._breaker = run, starts, _Breaker()

    @property
    def is_source_down(self) -> bool:
        """Whether the source counts as down."""
        return self._breaker.is_open

    def fetch(self, symbol: str) -> Fetched:
        """Return the answer for the symbol; the source is not asked while it counts as down."""
        return _not_fetched(self._run, symbol) if self._breaker.is_open else self.ask(symbol)

    def ask(self, symbol: str) -> Fetched:
        """Return the source's answer for the symbol."""
        run = self._run
        answer = run.source.fetch(symbol, self._starts[symbol], run.last_closed, run.clock())
        if answer.outcome != "bad_payload" or not run.source.is_local:  # a local file costs no time-out
            self._breaker.note(answer)
        return answer


def _not_fetched(run: Run, symbol: str) -> Fetched:
    return Fetched(symbol, "transient", run.now, reason=_NOT_FETCHED)


def describe_answers(run: Run, answers: Answers) -> list[str]:
    """Return what came of the requests, and how the source was read, in sentences for the log."""
    outcomes = [
        f"{n} {name}"
        for name, n in pd.Series([answer.outcome for answer in answers.values()]).value_counts().items()
    ]
    finished = len(run.universe.symbols) - len(answers)
    outcomes += [f"{finished} already complete for tonight"] if finished else []
    lines = [f"fetched{' context series' * run.is_context} from {run.source.name}: {', '.join(outcomes)}"]
    lines += dict.fromkeys(note for answer in answers.values() for note in answer.notes)
    if not run.source.is_local:  # its older bars may be stored: it is not missed
        return lines
    faulty = [answer for answer in answers.values() if answer.outcome == "bad_payload"]
    lines += [f"{answer.symbol} is not read: {answer.reason}" for answer in faulty[:_MOST]]
    return lines + ([f"{len(faulty) - _MOST} more symbols are not read"] if len(faulty) > _MOST else [])
