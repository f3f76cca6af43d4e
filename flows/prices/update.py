"""The evening's market: prices fetched, checked and kept, and how far they reach."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from flows.prices.fetch import Answers, fetch_all, plan_tonight
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import label_flow_run, task
from pipeline.errors import InputError, SourceError
from pipeline.formatting import count
from pipeline.market.universe import MIN_COVERAGE
from pipeline.prices.ingest.fetch_log import Answer
from pipeline.prices.ingest.fetch_plan import OVERLAP, FetchRequest
from pipeline.prices.ingest.listing_status import RECENT, find_listings, recent_bars
from pipeline.prices.ingest.quality import Checked, check, no_findings
from pipeline.prices.ingest.reconciliation import STANDING, Reconciliation, reconcile
from pipeline.prices.ingest.unknown_closures import find_unknown_sessions
from pipeline.prices.recent_bars import RecentBars
from pipeline.sources import Fetched

__all__ = ["PriceStatus", "check_prices", "read_price_status", "update_prices"]

_BARS = 500_000
"""Checked at a time, about: what is large is never in memory as a whole, what is small is looked at in one go."""


@dataclass(frozen=True, eq=False)
class PriceStatus:
    """What is known of the prices this evening.

    Attributes:
        as_of: The last session that a forecast may use.
        seq: The version of the store that says so.
        observed_at: When the newest bar that it holds was observed.
        missing: Why a member has no bar at as_of.
        findings: What the checks found (quality.FINDING_COLUMNS).
        covered: Members with a bar at as_of.
        members: Members at as_of.
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
    """Fetch what is new, keep what is right, and say how far the prices reach.

    Raises:
        SourceError: a live source lacks the session that has closed, for too many members: it is stale.
    """
    plan = plan_tonight(run)
    answers = fetch_all(run, plan)
    findings = check_prices(run, [a for a in answers.values() if a.outcome == "ok"], plan)
    _record(run, plan, answers)
    bars = _read_recent_bars(run)
    market = read_price_status(run, _reasons(run, answers, bars), findings, bars=bars)
    run.save_settings()
    label_flow_run(run, market.as_of)
    return market


@task("check prices")
def check_prices(run: Run, answers: Sequence[Fetched], plan: Mapping[str, FetchRequest]) -> pd.DataFrame:
    """Check the bars, append those that are good and new to the store, and return the findings.

    One block of symbols after another: a long history of many is never in memory as a whole.

    Args:
        run: The run.
        answers: Those whose outcome is ok.
        plan: What was asked for.
    """
    _require_one_source(run)
    holds, seq = run.fetch_log.holds(), run.store.seq()
    whole = frozenset(symbol for symbol, asking in plan.items() if asking.is_whole)
    findings, admitted, bars = [no_findings()], list[Reconciliation](), 0
    for block in _blocks(answers, whole):
        since = min(plan[answer.symbol].start for answer in block)
        stored = _standing(run, block, since)
        checked = _check(run, block, stored)
        admitted.append(reconcile(run.store, checked.prices, stored, holds, whole, since))
        findings += [checked.findings, admitted[-1].findings]
        bars += len(checked.prices)
    added = 0
    if admitted:
        new = pd.concat([a.new for a in admitted], ignore_index=True)
        added = run.store.append(new, run=run.digest, selected_at=seq)
    _log_quarantine(run, admitted)
    found = pd.concat(findings, ignore_index=True)
    unknown = find_unknown_sessions(found, len(answers), run.calendar.name)
    found = pd.concat([unknown, found], ignore_index=True)
    log_line(f"checked {bars} bars: {added} new, {count(len(found), 'finding')}")
    return found


def _blocks(answers: Sequence[Fetched], whole: frozenset[str]) -> Iterator[list[Fetched]]:
    """Give parts of the answers, short and whole histories apart: the latter are compared with all that is stored."""
    block, bars = list[Fetched](), 0
    for answer in sorted(answers, key=lambda answer: answer.symbol in whole):
        if block and (bars >= _BARS or (answer.symbol in whole) != (block[-1].symbol in whole)):
            yield block
            block, bars = [], 0
        block.append(answer)
        bars += len(answer.bars)
    if block:
        yield block


def _standing(run: Run, answers: Sequence[Fetched], since: pd.Timestamp) -> pd.DataFrame:
    symbols = [answer.symbol for answer in answers]
    return run.store.read(since=since, symbols=symbols, columns=STANDING)


def _check(run: Run, answers: Sequence[Fetched], stored: pd.DataFrame) -> Checked:
    return check(
        answers,
        run.calendar,
        run.last_closed,
        source=run.source.name,
        historical=run.is_historical,
        today=run.today,
        instruments=run.universe.instruments,
        standing=stored,
    )


def _log_quarantine(run: Run, admitted: Sequence[Reconciliation]) -> None:
    """Write down who goes into quarantine and who leaves it; the bars are stored by now."""
    held = [hold for each in admitted for hold in each.held]
    ended = [hold for each in admitted for hold in each.ended]
    if held:
        run.fetch_log.put("held", held, run.clock())
        named = ", ".join(f"{h.symbol} ({h.rule})" for h in held[:5])
        log_line(f"into quarantine: {count(len(held), 'symbol')}: {named}; nextday prices quarantine list")
    if ended:
        run.fetch_log.put("ended", ended, run.clock())
        log_line(
            f"out of quarantine: {count(len(ended), 'symbol')}: {', '.join(h.symbol for h in ended[:5])}"
        )


def _record(run: Run, plan: Mapping[str, FetchRequest], answers: Answers) -> None:
    """Log what was answered; a source that is read whole every time needs no memory."""
    if run.source.is_local:
        return
    said = [
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
    run.fetch_log.record(run.last_closed, said)


def _read_recent_bars(run: Run) -> RecentBars:
    """Read the sessions that tonight's steps need: listing states, settlement, and the configured model's window."""
    store, sessions, last, config = run.store, run.calendar.sessions, run.last_closed, run.config
    window = config.model.lookback + run.feature_set().reach
    count = max(RECENT, window, OVERLAP + max(config.labels.horizons)) + 1
    newest = min(store.newest_session() or last, last)
    since = sessions[max(int(sessions.searchsorted(newest)) - count, 0)]
    return RecentBars(store, since, last, store.seq())


def _reasons(run: Run, answers: Answers, stored: RecentBars) -> dict[str, str]:
    """Return why a symbol may have no bar tonight, the gravest reason each."""
    symbols, holds = run.universe.symbols, run.fetch_log.holds()
    bars = recent_bars(stored, run.calendar, symbols, run.last_closed)
    listings = find_listings(bars, run.fetch_log, run.calendar, symbols, run.last_closed)
    told = {
        state: {s: f"{state}: {each.evidence}" for s, each in listings.items() if each.state == state}
        for state in ("suspended", "delisted")
    }
    tonight = {s: f"{a.outcome}: {a.reason}" for s, a in answers.items() if a.outcome != "ok"}
    instruments = run.universe.instruments
    held = {symbol: holds[instruments[symbol]] for symbol in symbols if instruments[symbol] in holds}
    in_quarantine = {
        s: f"quarantine since {h.since:%Y-%m-%d}: {h.rule}: {h.evidence}" for s, h in held.items()
    }
    return told["suspended"] | tonight | told["delisted"] | in_quarantine


def read_price_status(
    run: Run,
    reasons: dict[str, str],
    findings: pd.DataFrame,
    *,
    as_of: pd.Timestamp | None = None,
    seq: int | None = None,
    bars: RecentBars | None = None,
) -> PriceStatus:
    """Say how far the stored prices reach.

    Args:
        run: The run.
        reasons: Why a symbol could not be fetched, by symbol.
        findings: What the checks of this run found.
        as_of: The session to look from; default: the last one closed, or a historical source's last.
        seq: The version of the store to look at; default: the newest.
        bars: The newest sessions, where they have been read already.

    Raises:
        InputError: a local source has no prices, or nobody belongs to the universe at as_of.
        SourceError: there are no prices, or those of a live source end before the last closed session.
    """
    symbols, last = run.universe.symbols, as_of or run.last_closed
    store = bars or run.store
    newest = store.latest("session", last, seq, symbols=symbols)
    observed_at = store.latest("observed_at", last, seq, symbols=symbols)
    if newest is None or observed_at is None:
        raise _no_price(run, reasons, findings)
    if as_of is None:
        as_of = newest if run.is_historical else run.last_closed
    members = run.universe.members(as_of)
    if not members:
        raise InputError(
            f"Nobody belongs to the universe {run.name!r} on {as_of:%Y-%m-%d}",
            where=f"[universe] file = {run.config.universe.file!r}",
            fix="fix the columns from and to of that file",
        )
    here = set(store.read(as_of, seq, since=as_of, symbols=symbols, columns=[])["symbol"])
    missing = {
        symbol: reasons.get(symbol, f"no bar on {as_of:%Y-%m-%d}") for symbol in members if symbol not in here
    }
    is_tonight = not run.is_historical and as_of == run.last_closed
    if is_tonight and len(here & set(members)) < MIN_COVERAGE * len(members):
        raise _stale(run, as_of, missing, len(members))
    return PriceStatus(
        as_of=as_of,
        seq=run.store.seq() if seq is None else seq,
        observed_at=observed_at,
        missing=missing,
        findings=findings,
        covered=len(here & set(members)),
        members=len(members),
        bars=bars,
    )


def _no_price(run: Run, reasons: dict[str, str], findings: pd.DataFrame) -> InputError | SourceError:
    examples = [f"{symbol}: {reason}" for symbol, reason in reasons.items()]
    for rule, rows in findings.groupby("rule"):
        first = rows.iloc[0]
        examples.append(f"{rule}: {len(rows)} bars, e.g. {first['symbol']} {first['session']:%Y-%m-%d}")
    what = f"There is no usable price of any of the {len(run.universe.symbols)} symbols of {run.name!r}"
    where = f"source {run.source.name}" + "".join(f"\n           {line}" for line in examples[:5])
    if run.source.is_local:
        fix = "fix the prices, or [universe] and [prices] start"
        if run.source.name == "sample":
            fix = 'for symbols of your own set [universe] source = "yahoo" or "files"'
        return InputError(what, where=where, fix=fix)
    fix = "see the reasons above; `nextday update` tries again; `nextday prices quarantine list` names who is held"
    return SourceError(what, where=where, fix=fix)


def _stale(run: Run, as_of: pd.Timestamp, missing: dict[str, str], members: int) -> SourceError:
    examples = "".join(f"\n           {symbol}: {reason}" for symbol, reason in [*missing.items()][:5])
    is_silent = len(missing) == members and not any(
        reason.startswith(("transient", "rate_limited")) for reason in missing.values()
    )
    closed = "; if the exchange was closed, write the day into [universe] closures" if is_silent else ""
    return SourceError(
        f"The prices are stale: {len(missing)} of {members} members have no bar on {as_of:%Y-%m-%d}, the last "
        f"session that closed; under {MIN_COVERAGE:.0%} coverage nothing is forecast",
        where=f"source {run.source.name}{examples}",
        fix=f"run again later: the missed session is caught up, its rows marked late{closed}{_mend(missing)}",
    )


def _mend(missing: Mapping[str, str]) -> str:
    """Return what a person can do about members that will not come back by themselves."""
    reasons = [*missing.values()]
    gone = any(reason.startswith(("suspended", "delisted")) for reason in reasons)
    held = any(reason.startswith("quarantine") for reason in reasons)
    return ("; end the membership of who is gone (column to)" if gone else "") + (
        "; nextday prices quarantine list names who is held" if held else ""
    )


def _require_one_source(run: Run) -> None:
    others = [name for name in run.store.sources() if name != run.source.name]
    if others:
        raise InputError(
            f"The prices of the universe {run.name!r} came from {others[0]!r}, and the settings now say "
            f"{run.source.name!r}: two vendors' bars do not join",
            where="[universe] source",
            fix="give the universe another name, or move its folder of prices away: " + str(run.store.folder),
        )
