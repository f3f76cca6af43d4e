"""Update the prices: fetch, check and store them, and report their status."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from flows.prices.fetch import Answers, fetch_all, plan_tonight
from flows.prices.missing import (
    Reasons,
    ended_prices_error,
    explain_missing,
    no_prices_error,
    stale_prices_error,
)
from flows.prices.unchanged import find_unchanged, keep_reading
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import label_flow_run, task
from pipeline.errors import InputError
from pipeline.features.targets import reach_of_targets
from pipeline.formatting import count
from pipeline.market.universe import MIN_COVERAGE
from pipeline.memory import return_freed_memory
from pipeline.prices.ingest.fetch_log import Answer
from pipeline.prices.ingest.fetch_plan import OVERLAP, FetchRequest
from pipeline.prices.ingest.leaps import LASTING
from pipeline.prices.ingest.listing_status import RECENT
from pipeline.prices.ingest.quality import Checked, check, no_findings
from pipeline.prices.ingest.reconciliation import COMPARED_COLUMNS, Reconciliation, reconcile
from pipeline.prices.ingest.unknown_closures import find_unknown_sessions
from pipeline.prices.ingest.volume import blank_unreported
from pipeline.prices.recent_bars import RecentBars
from pipeline.sources import Fetched

__all__ = ["PriceStatus", "check_prices", "read_price_status", "update_prices"]

_MAX_BARS = 500_000
"""Bars checked at a time, about: a large history is never in memory as a whole, a small one is one block."""


@dataclass(frozen=True, eq=False)
class PriceStatus:
    """The state of the stored prices in this session.

    Attributes:
        as_of: The last session that a forecast may use.
        seq: The version of the store.
        observed_at: When its newest bar was observed, of constituents or context series.
        missing: Why a member has no bar at as_of, by symbol.
        findings: The findings of the checks (quality.FINDING_COLUMNS).
        covered: Number of members with a bar at as_of.
        members: Number of members at as_of.
        bars: The newest sessions at `seq`, read once; None: the steps read the store.
    """

    as_of: pd.Timestamp
    seq: int
    observed_at: pd.Timestamp
    missing: dict[str, str]
    findings: pd.DataFrame
    covered: int
    members: int
    bars: RecentBars | None = None


def update_prices(run: Run) -> PriceStatus:
    """Fetch new bars, check and store them, and return the price status.

    Raises:
        InputError: no symbol trades on the calendar's exchange, or a local source has no prices.
        SourceError: the prices are stale: a live source lacks the last closed session for too many members.
    """
    context = [_fetch_and_check(run.of_context(part))[1] for part in run.context]
    read, answers = find_unchanged(run), Answers()
    if read:
        findings, reasons = read.findings, Reasons(read.reasons, read.was_open, read.calendars)
        bars = _read_recent_bars(run)
    else:
        answers, findings = _fetch_and_check(run)
        bars = _read_recent_bars(run)
        reasons = explain_missing(run, answers, findings, bars)
    found = pd.concat([findings, *context], ignore_index=True) if context else findings
    price_status = read_price_status(run, reasons, found, bars=bars)
    if not read:
        keep_reading(run, answers, findings, reasons)
        del answers
        return_freed_memory()
    run.save_settings()
    label_flow_run(run, price_status.as_of)
    return price_status


def _fetch_and_check(run: Run) -> tuple[Answers, pd.DataFrame]:
    """Fetch, check and store what is missing, and return the answers and the findings."""
    plan = plan_tonight(run)
    answers = fetch_all(run, plan)
    findings = check_prices(run, [a for a in answers.values() if a.outcome == "ok"], plan)
    _log_answers(run, plan, answers)
    return answers, findings


@task("check prices")
def check_prices(run: Run, answers: Sequence[Fetched], plan: Mapping[str, FetchRequest]) -> pd.DataFrame:
    """Check the bars, append the valid new ones to the store, and return the findings.

    Symbols are checked block by block, so that a large history is never in memory as a whole.

    Args:
        run: The run.
        answers: The answers whose outcome is ok.
        plan: The requests, by symbol.
    """
    _require_one_source(run)
    quarantine, seq = run.fetch_log.quarantined(), run.store.seq()
    whole = frozenset(symbol for symbol, request in plan.items() if request.is_whole)
    findings, reconciled, bars, unreported = [no_findings()], list[Reconciliation](), 0, list[str]()
    doubtful_from = _find_doubtful(run, answers)
    for block in _blocks(answers, whole):
        since = min(plan[answer.symbol].start for answer in block)
        stored = _read_stored(run, block, since)
        volumes = blank_unreported(block, whole, stored)
        checked = _check(run, volumes.answers, stored)
        reconciled.append(
            reconcile(run.store, checked.prices, stored, quarantine, whole, since, doubtful_from)
        )
        findings += [checked.findings, reconciled[-1].findings]
        bars += len(checked.prices)
        unreported += [symbol for symbol in volumes.unreported if symbol in whole]
    added = 0
    if reconciled:
        added = run.store.append(
            *(each.new for each in reconciled),
            run=run.digest,
            selected_at=seq,
            above=run.highest_data_version,
        )
    _log_quarantine(run, reconciled)
    found = pd.concat(findings, ignore_index=True)
    if not run.is_context:  # other markets than the exchange's say nothing of its sessions
        unknown = find_unknown_sessions(found, len(answers), run.calendar.name)
        found = pd.concat([unknown, found], ignore_index=True)
    log_line(
        f"checked {bars} bars{' of context series' * run.is_context}: {added} new, {count(len(found), 'finding')}"
    )
    if unreported and not run.is_context:
        log_line(
            f"no volume is reported for {count(len(unreported), 'symbol')}, e.g. {unreported[0]}: a volume of 0 "
            "on every bar does not count as untraded"
        )
    return found


def _find_doubtful(run: Run, answers: Sequence[Fetched]) -> pd.Timestamp:
    """Return the first session that is too recent for a jump to have lasted by the newest bar of all answers."""
    newest = max((answer.bars["session"].max() for answer in answers), default=run.last_closed)
    last = run.calendar.sessions.searchsorted(min(newest, run.last_closed), side="right")
    return run.calendar.sessions[max(int(last) - LASTING, 0)]


def _blocks(answers: Sequence[Fetched], whole: frozenset[str]) -> Iterator[list[Fetched]]:
    """Yield blocks of answers, whole histories apart: those are compared with all stored bars of their symbols."""
    block, bars = list[Fetched](), 0
    for answer in sorted(answers, key=lambda answer: answer.symbol in whole):
        if block and (bars >= _MAX_BARS or (answer.symbol in whole) != (block[-1].symbol in whole)):
            yield block
            block, bars = [], 0
        block.append(answer)
        bars += len(answer.bars)
    if block:
        yield block


def _read_stored(run: Run, answers: Sequence[Fetched], since: pd.Timestamp) -> pd.DataFrame:
    symbols = [answer.symbol for answer in answers]
    return run.store.read(since=since, symbols=symbols, columns=COMPARED_COLUMNS)


def _check(run: Run, answers: Sequence[Fetched], stored: pd.DataFrame) -> Checked:
    return check(
        answers,
        run.calendar,
        run.last_closed,
        source=run.source.name,
        historical=run.is_historical,
        today=run.today,
        instruments=run.universe.instruments,
        stored=stored,
    )


def _log_quarantine(run: Run, reconciled: Sequence[Reconciliation]) -> None:
    """Record which symbols enter quarantine and which leave it; their bars are stored already."""
    held = [entry for each in reconciled for entry in each.quarantined]
    ended = [entry for each in reconciled for entry in each.ended]
    if held:
        run.fetch_log.record_quarantine("held", held, run.clock())
        examples = ", ".join(f"{entry.symbol} ({entry.rule})" for entry in held[:5])
        log_line(f"into quarantine: {count(len(held), 'symbol')}: {examples}; nextday prices quarantine list")
    if ended:
        run.fetch_log.record_quarantine("ended", ended, run.clock())
        log_line(
            f"out of quarantine: {count(len(ended), 'symbol')}: {', '.join(entry.symbol for entry in ended[:5])}"
        )


def _log_answers(run: Run, plan: Mapping[str, FetchRequest], answers: Answers) -> None:
    """Log the answers; a local source, read whole every time, needs no log."""
    if run.source.is_local:
        return
    logged = [
        Answer(
            symbol,
            answer.outcome,
            plan[symbol].is_whole,
            plan[symbol].start,
            answer.observed_at,
            len(answer.bars),
            answer.reason,
        )
        for symbol, answer in answers.items()
    ]
    run.fetch_log.record(run.last_closed, logged)


def _read_recent_bars(run: Run) -> RecentBars:
    """Read the sessions that tonight's steps need: listing states, settlement, and the configured model's window."""
    store, sessions, last, config = run.store, run.calendar.sessions, run.last_closed, run.config
    window = config.model.lookback + max(run.feature_set().reach, reach_of_targets(config.labels.outputs))
    count = max(RECENT, window, OVERLAP + max(config.labels.horizons)) + 1
    newest = min(store.newest_session() or last, last)
    since = sessions[max(int(sessions.searchsorted(newest)) - count, 0)]
    return RecentBars(store, since, last, store.seq())


def read_price_status(
    run: Run,
    reasons: Reasons,
    findings: pd.DataFrame,
    *,
    as_of: pd.Timestamp | None = None,
    seq: int | None = None,
    bars: RecentBars | None = None,
) -> PriceStatus:
    """Return the status of the stored prices.

    Args:
        run: The run.
        reasons: What is known about missing bars.
        findings: The findings of this run's checks.
        as_of: The session to report on; default: the last one closed, or a historical source's last.
        seq: The version of the store; default: the newest.
        bars: The newest sessions, where they have been read already.

    Raises:
        InputError: a local source has no prices, or the universe has no member at as_of.
        SourceError: there are no prices, or those of a live source end before the last closed session.
    """
    symbols, last = run.universe.symbols, as_of or run.last_closed
    store = bars or run.store
    newest = store.latest("session", last, seq, symbols=symbols)
    observed_at = store.latest("observed_at", last, seq, symbols=symbols)
    if newest is None or observed_at is None:
        raise no_prices_error(run, reasons, findings)
    for part in run.context:
        series = run.of_context(part)
        seen = series.store.latest("observed_at", series.last_closed, seq, symbols=part.symbols)
        observed_at = max(observed_at, seen or observed_at)
    if as_of is None:
        as_of = newest if run.is_historical else run.last_closed
    members = run.universe.members(as_of)
    if not members:
        raise InputError(
            f"The universe {run.name!r} has no constituent on {as_of:%Y-%m-%d}",
            where=f"[universe] file = {run.config.universe.file!r}",
            fix="correct the columns from and to of that file",
        )
    present = set(store.read(as_of, seq, since=as_of, symbols=symbols, columns=[])["symbol"])
    missing = {
        symbol: reasons.by_symbol.get(symbol, f"no bar on {as_of:%Y-%m-%d}")
        for symbol in members
        if symbol not in present
    }
    is_tonight = not run.is_historical and as_of == run.last_closed
    if is_tonight and len(present & set(members)) < MIN_COVERAGE * len(members):
        ended = ended_prices_error(run, as_of, newest, missing)
        raise ended or stale_prices_error(run, as_of, missing, len(members), reasons, findings)
    return PriceStatus(
        as_of=as_of,
        seq=run.store.seq() if seq is None else seq,
        observed_at=observed_at,
        missing=missing,
        findings=findings,
        covered=len(present & set(members)),
        members=len(members),
        bars=bars,
    )


def _require_one_source(run: Run) -> None:
    """Refuse bars of another source than the stored ones; constituents and context series may have one each."""
    if {*run.store.sources()} <= {run.source.name}:
        return
    store = run.store
    symbols = run.universe.symbols if run.is_context else store.symbols()
    newest = store.latest("session", run.last_closed, symbols=symbols)
    rows = store.read(since=newest, symbols=symbols, columns=["source"]) if newest is not None else None
    others = [] if rows is None else sorted({*rows["source"]} - {run.source.name})
    if others:
        whose = "the context series" if run.is_context else f"the universe {run.name!r}"
        raise InputError(
            f"The prices of {whose} came from {others[0]!r}, but the settings now name "
            f"{run.source.name!r}: bars of two vendors cannot be joined",
            where="[context] source" if run.is_context else "[universe] source",
            fix="give the universe another name, or move its price folder away: " + run.store.place,
        )
