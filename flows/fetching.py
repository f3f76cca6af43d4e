"""Fetch prices, check them, keep them; then say how far they reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from prefect.tasks import exponential_backoff

from flows.chapters import chapter, label_flow_run
from flows.progress import Advance, bar, say
from flows.run import Run
from pipeline.errors import InputError, SourceError
from pipeline.quality import check, find_revisions, no_findings
from pipeline.sources import Fetched
from pipeline.universe import MIN_COVERAGE

__all__ = ["OVERLAP", "Market", "check_prices", "fetch_prices", "known_market", "update_prices"]

_CHUNK = 25
_MINUTES = 20
"""A try at a chunk may take: 25 symbols, each with the requests' own limits, end long before."""
_BLOCK = 100
OVERLAP = 15
"""Sessions asked for again every evening: what a vendor revises, he revises soon."""

_RETRIES = 3
_DEAD = 3
"""Failures in a row after which a source is down: asking on would cost a timeout a symbol, all night."""


@dataclass(frozen=True, eq=False)
class Market:
    """What is known of the prices this evening.

    Attributes:
        as_of: The last session that a forecast may use.
        seq: The version of the store that says so.
        observed_at: When the newest bar that it holds was observed.
        missing: Why a member has no bar at as_of.
        findings: What the checks found (quality.FINDING_COLUMNS).
        covered: Members with a bar at as_of.
        members: Members at as_of.
    """

    as_of: pd.Timestamp
    seq: int
    observed_at: pd.Timestamp
    missing: dict[str, str]
    findings: pd.DataFrame
    covered: int
    members: int


class _UnfinishedError(SourceError):
    """Some symbols could not be had this time; trying again may help."""


def update_prices(run: Run) -> Market:
    """Fetch what is new, keep what is right, and say how far the prices reach.

    Raises:
        SourceError: a live source lacks the session that has closed, for too many members: it is stale.
    """
    answers = fetch_all(run)
    findings = check_prices(run, [answer for answer in answers if answer.outcome == "ok"])
    reasons = {
        answer.symbol: f"{answer.outcome}: {answer.reason}" for answer in answers if answer.outcome != "ok"
    }
    market = known_market(run, reasons, findings)
    run.save_settings()
    label_flow_run(run, market.as_of)
    return market


def fetch_all(run: Run) -> list[Fetched]:
    """Ask the source for every symbol of the universe, in chunks that are retried on their own."""
    symbols, starts = run.universe.symbols, _starts(run)
    answers: dict[str, Fetched] = {}
    with bar("fetch prices", len(symbols)) as advance:
        for first in range(0, len(symbols), _CHUNK):
            chunk = symbols[first : first + _CHUNK]
            try:
                fetch_prices(run, chunk, starts, answers, advance)
            except (_UnfinishedError, TimeoutError) as unfinished:
                say(str(unfinished))
                if all(symbol not in answers or answers[symbol].outcome == "transient" for symbol in chunk):
                    break
    answers |= {symbol: _not_asked(run, symbol) for symbol in symbols if symbol not in answers}
    outcomes = pd.Series([answer.outcome for answer in answers.values()]).value_counts()
    say(f"fetched from {run.source.name}: " + ", ".join(f"{n} {name}" for name, n in outcomes.items()))
    return [answers[symbol] for symbol in symbols]


@chapter(
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
    starts: dict[str, pd.Timestamp],
    answers: dict[str, Fetched],
    advance: Advance,
) -> None:
    """Fill `answers`; a retry asks only for the symbols whose last answer was transient.

    Raises:
        _UnfinishedError: the network or the vendor failed for some symbols; the others are in `answers`.
    """
    open_ones = [s for s in symbols if s not in answers or answers[s].outcome == "transient"]
    in_a_row = 0
    for symbol in open_ones:
        is_first_time = symbol not in answers
        if in_a_row < _DEAD:
            answers[symbol] = run.source.fetch(symbol, starts[symbol], run.last_closed, run.clock())
        else:
            answers[symbol] = _not_asked(run, symbol)
        in_a_row = in_a_row + 1 if answers[symbol].outcome == "transient" else 0
        if is_first_time:
            advance(f"{symbol} {answers[symbol].outcome}")
    failed = [symbol for symbol in symbols if answers[symbol].outcome == "transient"]
    if failed:
        raise _UnfinishedError(
            f"{len(failed)} of {len(symbols)} symbols could not be fetched, {failed[0]} for one: "
            f"{answers[failed[0]].reason}"
        )


@chapter("check prices")
def check_prices(run: Run, answers: Sequence[Fetched]) -> pd.DataFrame:
    """Check the bars, append those that are good and new to the store, and return the findings.

    One block of symbols after another: a large universe is never in memory as a whole.
    """
    _require_one_source(run)
    new, findings, bars = [], [no_findings()], 0
    for first in range(0, len(answers), _BLOCK):
        checked = check(
            answers[first : first + _BLOCK],
            run.calendar,
            run.last_closed,
            source=run.source.name,
            historical=run.is_historical,
            today=run.today,
        )
        stored = run.store.read(
            symbols=checked.prices["symbol"].unique().tolist(), columns=["close", "status"]
        )
        findings += [checked.findings, find_revisions(stored, checked.prices)]
        new.append(run.store.select_new(checked.prices))
        bars += len(checked.prices)
    added = run.store.append(pd.concat(new, ignore_index=True), run=run.digest) if new else 0
    found = pd.concat(findings, ignore_index=True)
    say(f"checked {bars} bars: {added} new, {len(found)} findings")
    return found


def known_market(
    run: Run,
    reasons: dict[str, str],
    findings: pd.DataFrame,
    *,
    as_of: pd.Timestamp | None = None,
    seq: int | None = None,
) -> Market:
    """Say how far the stored prices reach.

    Args:
        run: The run.
        reasons: Why a symbol could not be fetched, by symbol.
        findings: What the checks of this run found.
        as_of: The session to look from; default: the last one closed, or a historical source's last.
        seq: The version of the store to look at; default: the newest.

    Raises:
        InputError: a local source has no prices, or nobody belongs to the universe at as_of.
        SourceError: there are no prices, or those of a live source end before the last closed session.
    """
    symbols, last = run.universe.symbols, as_of or run.last_closed
    newest = run.store.latest("session", last, seq, symbols=symbols)
    observed_at = run.store.latest("observed_at", last, seq, symbols=symbols)
    if newest is None or observed_at is None:
        raise _no_price(run, reasons, findings)
    if as_of is None:
        as_of = newest if run.is_historical else run.last_closed
    members = run.universe.members(as_of)
    if not members:
        raise InputError(
            f"Nobody belongs to the universe {run.name!r} on {as_of:%Y-%m-%d}",
            where=f"[universe] file = {run.config.universe.file!r}",
            way_out="mend the columns from and to of that file",
        )
    here = set(run.store.read(as_of, seq, since=as_of, symbols=symbols, columns=[])["symbol"])
    missing = {
        symbol: reasons.get(symbol, f"no bar on {as_of:%Y-%m-%d}") for symbol in members if symbol not in here
    }
    is_tonight = not run.is_historical and as_of == run.last_closed
    if is_tonight and len(here & set(members)) < MIN_COVERAGE * len(members):
        raise _stale(run, as_of, missing, len(members))
    return Market(
        as_of=as_of,
        seq=run.store.seq() if seq is None else seq,
        observed_at=observed_at,
        missing=missing,
        findings=findings,
        covered=len(here & set(members)),
        members=len(members),
    )


def _no_price(run: Run, reasons: dict[str, str], findings: pd.DataFrame) -> InputError | SourceError:
    examples = [f"{symbol}: {reason}" for symbol, reason in reasons.items()]
    for rule, rows in findings.groupby("rule"):
        first = rows.iloc[0]
        examples.append(f"{rule}: {len(rows)} bars, e.g. {first['symbol']} {first['session']:%Y-%m-%d}")
    what = f"There is no usable price of any of the {len(run.universe.symbols)} symbols of {run.name!r}"
    where = f"source {run.source.name}" + "".join(f"\n           {line}" for line in examples[:5])
    if run.source.is_local:
        way_out = "mend the prices, or [universe] and [prices] start"
        if run.source.name == "sample":
            way_out = 'for symbols of your own set [universe] source = "yahoo" or "files"'
        return InputError(what, where=where, way_out=way_out)
    return SourceError(what, where=where, way_out="see the reasons above; `nextday update` tries again")


def _stale(run: Run, as_of: pd.Timestamp, missing: dict[str, str], members: int) -> SourceError:
    examples = "".join(f"\n           {symbol}: {reason}" for symbol, reason in [*missing.items()][:5])
    return SourceError(
        f"The prices are stale: {len(missing)} of {members} members have no bar on {as_of:%Y-%m-%d}, the last "
        f"session that closed; under {MIN_COVERAGE:.0%} coverage nothing is forecast",
        where=f"source {run.source.name}{examples}",
        way_out="run again later: the missed session is caught up, its rows marked late",
    )


def _require_one_source(run: Run) -> None:
    others = [name for name in run.store.sources() if name != run.source.name]
    if others:
        raise InputError(
            f"The prices of the universe {run.name!r} came from {others[0]!r}, and the settings now say "
            f"{run.source.name!r}: two vendors' bars do not join",
            where="[universe] source",
            way_out="give the universe another name, or move its folder of prices away: "
            + str(run.store.folder),
        )


def _not_asked(run: Run, symbol: str) -> Fetched:
    return Fetched(symbol, "transient", run.now, reason="not asked: the source was down")


def _starts(run: Run) -> dict[str, pd.Timestamp]:
    """Return from where to ask, by symbol: a little before the last settled bar, so that revisions are seen."""
    beginning = pd.Timestamp(run.config.prices.start)
    starts = dict.fromkeys(run.universe.symbols, beginning)
    if run.source.is_local:
        return starts
    stored = run.store.read(columns=["status"])
    settled = stored[stored["status"] == "settled"].groupby("symbol")["session"].max()
    sessions = run.calendar.sessions
    for symbol, last in settled.items():
        starts[str(symbol)] = sessions[max(run.calendar.position(last) - OVERLAP, 0)]
    return starts
