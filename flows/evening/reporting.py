"""Gather the report of a nightly run and write it: tonight's, missing ones and old ones again."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from flows.evening.decay import explain_decay, judge_record
from flows.evening.last_calls import judge_last_calls
from flows.evening.lateness import describe_exceptions, explain_late, explain_never_live
from flows.evening.model_card import build_model_card, list_promotions
from flows.evening.record_scores import list_challenger_records, score_record
from flows.prices.missing import Reasons
from flows.prices.update import PriceStatus, read_price_status
from flows.runtime.context import Run, with_former_settings
from flows.runtime.custom_code import describe_missing_audit
from flows.runtime.progress import log_line, log_quietly
from flows.runtime.tasks import task
from flows.training.evaluation import EPOCH_COLUMNS, RANGE_COLUMNS, Evaluation, load_evaluation
from flows.training.history import describe_context, explain_masked, explain_unlearnable
from flows.training.per_symbol import explain_unmodelled
from flows.training.trials import describe_trials
from flows.training.verified_champion import Champion, Champions
from models.ensembles.model_files import model_version
from models.errors import ModelError
from pipeline.errors import InputError, NextdayError, StoreError
from pipeline.evaluation.attributions import load_attributions
from pipeline.features.targets import OPENS_SEEN
from pipeline.ledger.ledger import UniverseRecord
from pipeline.monitoring.challenge import Standing
from pipeline.outputs import Output, describe_outputs, list_outputs, select_output
from pipeline.plugins import is_custom_code
from pipeline.prices.ingest.fetch_plan import OVERLAP
from pipeline.prices.ingest.quality import no_findings
from pipeline.report.evening_report import Report
from pipeline.report.files import Paths, find_foreign_latest, report_paths, write
from pipeline.schema import SCORES, empty
from pipeline.storage.files import digest_files
from pipeline.tracking.registry import Registry

__all__ = ["gather_again", "rebuild_report", "write_missing", "write_report"]


_TEST_ROWS = [
    *("model", "symbol", "as_of", "target_session", "horizon", "target", "p_up", "direction", "outcome")
]
_OF_THE_MODEL = ("features", "labels", "model", "training", "calibration")
_NAMED = 8  # symbols in a sentence
_MINUTES = 15
"""Far more than writing a report may take."""


@task("write report", timeout=_MINUTES * 60)
def write_report(
    run: Run,
    price_status: PriceStatus,
    standing: pd.DataFrame,
    record: UniverseRecord,
    champion: Champion,
    remarks: list[str],
    challengers: Sequence[Standing] = (),
) -> tuple[Report, Paths]:
    """Write forecast.csv, scores.csv and report.html of one session's sealed rows.

    Args:
        run: The run.
        price_status: How far the prices reach.
        standing: The sealed rows (schema.FORECASTS and is_new).
        record: The universe's part of the ledger.
        champion: The model of the first row.
        remarks: What else to mention in the report.
        challengers: Where the challengers stand.
    """
    gathered = _gather(run, price_status, standing, record, champion, remarks)
    report = replace(gathered, challengers=challengers)
    if report.verdict and not champion.evaluation:  # of an earlier nextday
        folder = run.workspace.evaluation(run.name, champion.version)
        registry = Registry(run.workspace.home, model_version)
        registry.add_evaluation(run.name, champion.version, digest_files(folder))
        log_quietly(f"the evaluation of {champion.version} had no checksums: they are taken from its files")
    if foreign := find_foreign_latest(report, run.workspace.reports):
        log_line(f"latest.csv was for {foreign:%Y-%m-%d}, for which nothing is sealed: it is replaced")
    paths = write(report, run.workspace.reports)
    log_line(f"report: {paths.html}")
    return report, paths


def rebuild_report(run: Run, as_of: pd.Timestamp | None) -> Paths:
    """Write the report of a sealed session again.

    Raises:
        InputError: the ledger has no forecast of that session.
    """
    record = run.ledger.universe_record(run.name)
    if as_of is None:
        as_of = record.last_as_of
    standing = record.rows[record.rows["as_of"] == as_of]
    if standing.empty:
        raise InputError(
            f"The ledger has no forecast of {run.name!r}" + (f" from {as_of:%Y-%m-%d}" if as_of else ""),
            where=str(run.workspace.ledger),
            fix="`nextday forecast` makes one; `nextday ledger show` lists the sessions",
        )
    return write(gather_again(run, standing, record, Champions(run)), run.workspace.reports)


def write_missing(
    run: Run, record: UniverseRecord, champions: Champions, before: pd.Timestamp | None = None
) -> list[str]:
    """Write the missing reports of the newest sealed sessions: just caught up, or left out by a killed run.

    It looks back OVERLAP sessions only: reports that the user removed to free space are not all written again.

    Args:
        run: The run.
        record: The universe's part of the ledger.
        champions: The registered models.
        before: Only sessions before this one.

    Returns:
        A remark on each report that cannot be written any more: an old report must not cost tonight's forecast.

    Raises:
        NextdayError: a file cannot be written.
    """
    missing, remarks = [], []
    for as_of, rows in reversed([*record.rows.groupby("as_of")][-OVERLAP:]):
        if before is None or as_of < before:
            if report_paths(run.workspace.reports, run.name, _next_session(rows)).html.exists():
                break
            missing.append(rows)
    for rows in reversed(missing):
        try:
            report = gather_again(run, rows, record, champions)
        except (NextdayError, ModelError) as error:
            remarks.append(f"The report of {_next_session(rows):%Y-%m-%d} is missing. {error}")
        else:
            write(report, run.workspace.reports)
    return remarks


def _next_session(standing: pd.DataFrame) -> pd.Timestamp:
    """Return the session that names the report of these rows."""
    return pd.Timestamp(_first(standing)["target_session"])


def _first(standing: pd.DataFrame) -> "pd.Series[Any]":
    """Return the row of the first output that was sealed first."""
    return select_output(standing, list_outputs(standing)[0]).sort_values("issued_at", kind="stable").iloc[0]


def gather_again(run: Run, standing: pd.DataFrame, record: UniverseRecord, champions: Champions) -> Report:
    """Gather the report of one session's sealed rows with the settings and prices of that session."""
    first = _first(standing)
    former = with_former_settings(run, str(first["config_digest"]))
    champion = champions.version(str(first["model_version"]))
    seq = int(first["data_version"])
    run.store.require_version(seq)
    price_status = read_price_status(former, Reasons(), no_findings(), as_of=first["as_of"], seq=seq)
    remarks = ["Written later, from the ledger; the record of outcomes is that of the day of writing."]
    return _gather(former, price_status, standing.assign(is_new=False), record, champion, remarks)


def _gather(
    run: Run,
    price_status: PriceStatus,
    standing: pd.DataFrame,
    record: UniverseRecord,
    champion: Champion,
    remarks: list[str],
) -> Report:
    first = _first(standing)
    decay = judge_record(run, record)
    evaluation, lost = _load_evaluation(run, champion)
    attributions, unread = _load_attributions(run, standing)
    return Report(
        universe=run.name,
        calendar=run.calendar.name,
        as_of=first["as_of"],
        target_session=first["target_session"],
        issued_at=first["issued_at"].to_pydatetime(),
        kind="live" if 2 * (standing["kind"] == "live").sum() > len(standing) else "late",
        historical=run.is_historical,
        forecasts=standing,
        skipped=_skipped(run, price_status, standing, champion),
        members=price_status.members,
        covered=price_status.covered,
        bias=run.universe.bias,
        **_measured(evaluation),
        live_scores=score_record(record.rows, champion.name),
        challenger_records=list_challenger_records(run),
        record=record.rows,
        corrections=record.corrections,
        findings=price_status.findings,
        model=build_model_card(champion, list_promotions(run)),
        trained_through=champion.trained_through,
        model_age=run.calendar.position(first["as_of"]) - run.calendar.position(champion.trained_through),
        promoted_at=champion.promoted_at,
        data_version=int(first["data_version"]),
        newest_observed_at=price_status.observed_at.to_pydatetime(),
        sessions_behind=_sessions_behind(run, first),
        config_digest=str(first["config_digest"]),
        ledger_head=record.head.hash,
        notes=_notes(run, standing, champion, record.beginnings + remarks + lost + unread)
        + describe_exceptions(record.rows[record.rows["as_of"] == first["as_of"]])
        + _describe_context(run, price_status, champion, evaluation),
        tried=describe_trials(run, until=first["issued_at"].to_pydatetime()),
        attributions=attributions,
        late_because=explain_late(run, standing, record.rows, price_status.observed_at),
        last_calls=judge_last_calls(run, price_status, record, list_outputs(standing)[0]),
        decay=decay,
        drift=explain_decay(run, first["as_of"], int(first["data_version"]), champion, decay),
    )


def _measured(evaluation: Evaluation | None) -> dict[str, Any]:
    """Return the report's fields of an evaluation, empty ones without it."""
    return {
        "verdict": evaluation.verdict if evaluation else None,
        "scores": evaluation.scores if evaluation else empty(SCORES),
        "test_rows": evaluation.test_rows if evaluation else pd.DataFrame(columns=_TEST_ROWS),
        "epochs": evaluation.epochs if evaluation else pd.DataFrame(columns=EPOCH_COLUMNS),
        "ranges": evaluation.ranges if evaluation else pd.DataFrame(columns=RANGE_COLUMNS),
        "further": evaluation.further if evaluation else {},
        "insight": evaluation.insight if evaluation else None,
        "figures": evaluation.figures if evaluation else {},
    }


_NO_CHARTS: Final = (
    "The model's evaluation has no charts: [retention] removed them, or an earlier version drew none."
)


def _load_evaluation(run: Run, champion: Champion) -> tuple[Evaluation | None, list[str]]:
    """Return the evaluation of the champion's training, or a remark: a lost score must not cost the forecast."""
    try:
        folder = run.workspace.evaluation(run.name, champion.version)
        evaluation = load_evaluation(folder, champion.evaluation)
        return evaluation, [] if evaluation.figures else [_NO_CHARTS]
    except StoreError as error:
        because = f"{error.what[0].lower()}{error.what[1:]} ({error.where})"
        return None, [f"No score is shown, because {because}. Fix: {error.fix}."]


def _load_attributions(run: Run, standing: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the saved attributions of the forecasts, or a remark."""
    folder = report_paths(run.workspace.reports, run.name, _next_session(standing)).folder
    try:
        return load_attributions(folder, standing), []
    except StoreError as error:
        return pd.DataFrame(), [f"{error.what}. {error.fix.capitalize()}."]


def _skipped(run: Run, price_status: PriceStatus, standing: pd.DataFrame, champion: Champion) -> pd.DataFrame:
    """Return the members without a forecast: symbol and reason."""
    absent = sorted(set(run.universe.members(price_status.as_of)) - set(standing["symbol"]))
    explain = explain_unmodelled(run, champion.metadata)
    unexplained = [s for s in absent if s not in price_status.missing and not explain(s)]
    masked = _masked(run, price_status, unexplained, champion)
    reasons = [
        price_status.missing.get(symbol)
        or explain(symbol)
        or masked.get(symbol)
        or "its history has a gap, or is shorter than one window"
        for symbol in absent
    ]
    return pd.DataFrame({"symbol": absent, "reason": reasons}, dtype="str")


def _masked(run: Run, price_status: PriceStatus, symbols: list[str], champion: Champion) -> dict[str, str]:
    """Return the features that are not finite, by symbol; nothing where that cannot be told any more."""
    with suppress(NextdayError):
        return explain_masked(
            run,
            price_status.as_of,
            price_status.seq,
            symbols,
            champion.feature_set(run),
            champion.lookback,
        )
    return {}


def _describe_context(
    run: Run, price_status: PriceStatus, champion: Champion, evaluation: Evaluation | None
) -> list[str]:
    """Return what was known of the champion's context series, and what they brought; nothing without them."""
    if "context" not in champion.added or champion.find_lacking(run):
        return []
    series = champion.feature_set(run).context
    known = describe_context(run, price_status.as_of, price_status.seq, series, champion.lookback)
    gain = evaluation.context.sentence if evaluation and evaluation.context else ""
    return [sentence for sentence in (known, gain) if sentence]


def _sessions_behind(run: Run, row: "pd.Series[Any]") -> int:
    """Count the sessions that had closed when the row was issued and that it does not use."""
    return run.calendar.position(run.closed_by(row["issued_at"])) - run.calendar.position(row["as_of"])


def _name_changed_sections(run: Run, former: Mapping[str, Any], among: tuple[str, ...] = ()) -> str:
    """Return the sections whose settings differ from former ones; `among`: of these sections only."""
    names = [
        n for n, now in run.resolved["settings"].items() if former.get(n) != now and (not among or n in among)
    ]
    return ", ".join(f"[{name}]" for name in names)


def _notes(run: Run, standing: pd.DataFrame, champion: Champion, remarks: list[str]) -> list[str]:
    notes = [
        "The scores belong to the procedure, measured on sessions that no fit saw. The champion that forecasts here is "
        f"the same procedure fitted once more through {champion.trained_through:%Y-%m-%d}; its newest sessions serve "
        f"early stopping and calibration{_describe_refit(champion)}."
    ]
    if unaudited := describe_missing_audit(run):
        notes.append(unaudited)
    if never_live := explain_never_live(run):
        notes.append(never_live)
    old = standing[~standing["is_new"]]
    if len(old):
        notes.append(
            f"{len(old)} of {len(standing)} rows stood in the ledger before this run, issued "
            f"{old['issued_at'].min():%Y-%m-%d %H:%M}Z by model {old['model_version'].iloc[0]}: the first row of a "
            "forecast stands, whatever is run or configured later."
        )
    made = list_outputs(standing)
    notes += _explain_no_opens(standing, made)
    if lacking := [output for output in run.config.labels.outputs if output not in made]:
        notes.append(_explain_lacking(lacking, champion))
    try:
        former = with_former_settings(run, str(_first(standing)["config_digest"])).resolved["settings"]
    except NextdayError as error:
        notes.append(f"{error.what} ({error.where}). Fix: {error.fix}.")
    else:
        if changed := _name_changed_sections(run, former):
            notes.append(f"The settings have changed since those rows were issued: {changed}.")
    if untrained := _name_changed_sections(run, champion.resolve_settings(), _OF_THE_MODEL):
        notes.append(
            f"The champion was trained with other settings ({untrained}): `nextday retrain` uses the new ones."
        )
    return notes + remarks


def _describe_refit(champion: Champion) -> str:
    is_refitted = champion.resolve_settings()["training"].get("refit") and not is_custom_code(champion.kind)
    return ", and are learned in a second fit" if is_refitted else ""


def _explain_no_opens(standing: pd.DataFrame, outputs: list[Output]) -> list[str]:
    """Return which symbols are not forecast for targets that need opens, a sentence each target."""
    notes = []
    for output in (each for each in outputs if each.needs_open):
        lacking = sorted({*standing["symbol"]} - {*select_output(standing, output)["symbol"]})
        if lacking:
            more = f" and {len(lacking) - _NAMED:,} more" if len(lacking) > _NAMED else ""
            notes.append(
                f"No forecast {describe_outputs([output])} of {', '.join(lacking[:_NAMED])}{more}: fewer than half of "
                f"the last {OPENS_SEEN} bars have a real open."
            )
    return notes


def _explain_lacking(outputs: list[Output], champion: Champion) -> str:
    """Return why there is no forecast of some of the configured outputs."""
    lack = f"There is no forecast {describe_outputs(outputs)}"
    if untrained := [output for output in outputs if output not in champion.outputs]:
        if all(output.needs_open or output.is_relative for output in untrained):
            return (
                f"{lack}: the champion was not trained for it. `nextday retrain` trains one that is, if there are "
                f"labels: {'; '.join(sorted({explain_unlearnable(output) for output in untrained}))}."
            )
        return f"{lack}: the champion was not trained for it. `nextday retrain` trains one that is."
    if any(output.needs_open for output in outputs):
        return f"{lack}: no symbol has real opens lately."
    return f"{lack}: the calendar does not reach so far. A newer release of exchange-calendars may."
