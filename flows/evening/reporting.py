"""Gather what an evening came to, write it down for people, and show it in Prefect."""

from typing import Any

import pandas as pd

from flows.evening.forecasting import known_horizons
from flows.evening.model_card import describe_agreement, describe_calibration, describe_engine, describe_model
from flows.prices.update import PriceStatus, read_price_status
from flows.runtime.context import Run, with_former_settings
from flows.runtime.custom_code import describe_missing_audit
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.runtime.tracking import tracking
from flows.training.evaluation import Evaluation, load_evaluation
from flows.training.per_symbol import explain_unmodelled
from flows.training.trials import describe_trials
from models.ensembles.model_files import read_metadata
from models.errors import ModelError
from pipeline.config import Config, ModelConfig
from pipeline.errors import InputError, NextdayError, StoreError
from pipeline.evaluation.attributions import load_attributions
from pipeline.evaluation.horizons import describe_horizons
from pipeline.evaluation.scores import score
from pipeline.evaluation.selective import select_issued
from pipeline.prices.ingest.fetch_plan import OVERLAP
from pipeline.prices.ingest.quality import no_findings
from pipeline.report.evening_report import Report
from pipeline.report.files import Paths, report_paths, write
from pipeline.schema import SCORES, empty
from pipeline.tracking.registry import RegisteredModel

__all__ = ["rebuild_report", "write_missing", "write_report"]


_TEST_ROWS = ["model", "symbol", "as_of", "target_session", "horizon", "p_up", "direction", "outcome"]
_EPOCHS = ["fit", "member", "epoch", "loss", "hit_rate", "stop_loss", "stop_hit_rate", "gradient_norm"]
_RANGES = ["fit", "part", "first_session", "last_session", "sessions", "rows"]
_OF_THE_MODEL = ("features", "labels", "model", "training", "calibration")
_MINUTES = 15
"""Far more than a page, a database on the same disk or a server's answer may take."""


@task("report", timeout=_MINUTES * 60)
def write_report(
    run: Run, market: PriceStatus, standing: pd.DataFrame, remarks: list[str]
) -> tuple[Report, Paths]:
    """Write forecast.csv, scores.csv and report.html of the standing rows."""
    report = _gather(run, market, standing, remarks)
    paths = write(report, run.workspace.reports)
    log_line(f"report: {paths.html}")
    return report, paths


def rebuild_report(run: Run, as_of: pd.Timestamp | None) -> Paths:
    """Write the reports of a sealed session again.

    Raises:
        InputError: the ledger has no forecast of that session.
    """
    record = run.ledger.record(run.name)
    if as_of is None and not record.empty:
        as_of = record["as_of"].max()
    standing = record[record["as_of"] == as_of]
    if standing.empty:
        raise InputError(
            f"The ledger has no forecast of {run.name!r}" + (f" from {as_of:%Y-%m-%d}" if as_of else ""),
            where=str(run.workspace.ledger),
            fix="`nextday forecast` makes one; `nextday ledger show` lists the sessions",
        )
    return write(_gather_again(run, standing), run.workspace.reports)


def write_missing(run: Run, before: pd.Timestamp | None = None) -> list[str]:
    """Write the reports of the newest sealed sessions that have none: just caught up, or left by a killed run.

    It looks back OVERLAP sessions: whoever makes room by removing reports need not pay for all of them tonight.

    Args:
        run: The run.
        before: Only of sessions before this one.

    Returns:
        A remark for each that cannot be told any more: an old report must not cost tonight's forecast.

    Raises:
        NextdayError: a file cannot be written.
    """
    record, missing, remarks = run.ledger.record(run.name), [], []
    for as_of, rows in reversed([*record.groupby("as_of")][-OVERLAP:]):
        if before is None or as_of < before:
            if report_paths(run.workspace.reports, run.name, _next_session(rows)).html.exists():
                break
            missing.append(rows)
    for rows in reversed(missing):
        try:
            report = _gather_again(run, rows)
        except (NextdayError, ModelError) as error:
            remarks.append(f"The report of {_next_session(rows):%Y-%m-%d} is missing. {error}")
        else:
            write(report, run.workspace.reports)
    return remarks


def _next_session(standing: pd.DataFrame) -> pd.Timestamp:
    """Return the session that a report of one evening's rows is named by."""
    return pd.Timestamp(_first(standing)["target_session"])


def _first(standing: pd.DataFrame) -> "pd.Series[Any]":
    """Return the first row of the nearest horizon."""
    return standing.sort_values("horizon", kind="stable").iloc[0]


def _gather_again(run: Run, standing: pd.DataFrame) -> Report:
    """Gather the report of one session's sealed rows as the settings and prices of then have it."""
    first = _first(standing)
    former = with_former_settings(run, str(first["config_digest"]))
    market = read_price_status(
        former, {}, no_findings(), as_of=first["as_of"], seq=int(first["data_version"])
    )
    remarks = ["Written after its evening, from the ledger; the record is that of today."]
    return _gather(former, market, standing.assign(is_new=False), remarks)


def _gather(run: Run, market: PriceStatus, standing: pd.DataFrame, remarks: list[str]) -> Report:
    first = _first(standing)
    champion = tracking(run).version(run.name, str(first["model_version"]))
    evaluation, lost = _evaluation(run, champion)
    attributions, unread = _attributions(run, standing)
    record = run.ledger.record(run.name)
    return Report(
        universe=run.name,
        calendar=run.calendar.name,
        as_of=first["as_of"],
        target_session=first["target_session"],
        issued_at=first["issued_at"].to_pydatetime(),
        kind="live" if (standing["kind"] == "live").all() else "late",
        historical=run.is_historical,
        forecasts=standing,
        skipped=_skipped(run, market, standing, champion),
        members=market.members,
        covered=market.covered,
        bias=run.universe.bias,
        verdict=evaluation.verdict if evaluation else None,
        scores=evaluation.scores if evaluation else empty(SCORES),
        test_rows=evaluation.test_rows if evaluation else pd.DataFrame(columns=_TEST_ROWS),
        live_scores=_live_scores(record, _named(champion)),
        record=record,
        corrections=run.ledger.corrections(run.name),
        epochs=evaluation.epochs if evaluation else pd.DataFrame(columns=_EPOCHS),
        ranges=evaluation.ranges if evaluation else pd.DataFrame(columns=_RANGES),
        findings=market.findings,
        model=_model_card(champion),
        trained_through=champion.trained_through,
        model_age=run.calendar.position(first["as_of"]) - run.calendar.position(champion.trained_through),
        promoted_at=champion.promoted_at,
        data_version=int(first["data_version"]),
        newest_observed_at=market.observed_at.to_pydatetime(),
        sessions_behind=_sessions_behind(run, first),
        config_digest=str(first["config_digest"]),
        ledger_head=run.ledger.head().hash,
        notes=_notes(run, standing, champion, remarks + lost + unread),
        tried=describe_trials(run, until=first["issued_at"].to_pydatetime()),
        further=evaluation.further if evaluation else {},
        insight=evaluation.insight if evaluation else None,
        attributions=attributions,
    )


def _evaluation(run: Run, champion: RegisteredModel) -> tuple[Evaluation | None, list[str]]:
    """Return what is kept of the champion's training, or a remark: a lost score must not cost the forecast."""
    try:
        return load_evaluation(run.workspace.evaluation(run.name, champion.model_version)), []
    except StoreError as error:
        return None, [f"No score is shown. {error.what}. {error.fix.capitalize()}."]


def _attributions(run: Run, standing: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return what is kept of what moved the forecasts, or a remark."""
    folder = report_paths(run.workspace.reports, run.name, _next_session(standing)).folder
    try:
        return load_attributions(folder, standing), []
    except StoreError as error:
        return pd.DataFrame(), [f"{error.what}. {error.fix.capitalize()}."]


def _skipped(
    run: Run, market: PriceStatus, standing: pd.DataFrame, champion: RegisteredModel
) -> pd.DataFrame:
    absent = sorted(set(run.universe.members(market.as_of)) - set(standing["symbol"]))
    explain = explain_unmodelled(run, read_metadata(champion.directory))
    reasons = [
        market.missing.get(symbol)
        or explain(symbol)
        or "its history has a hole, or is too short for one window"
        for symbol in absent
    ]
    return pd.DataFrame({"symbol": absent, "reason": reasons}, dtype="str")


def _live_scores(record: pd.DataFrame, name: str) -> pd.DataFrame:
    """Score what has been settled; the baseline is the base rate that stood on each row when it was issued."""
    settled = record[record["outcome"].notna()]
    parts = []
    for (kind, _), rows in settled.groupby(["kind", "horizon"]):
        model = rows.assign(model=name)
        baseline = rows.assign(model="base_rate", p_up=rows["baseline_p_up"])
        both = pd.concat([model, baseline])
        parts.append(score(both, baseline="base_rate", group=str(kind)))
        if (rows["direction"] == "none").any():
            told = select_issued(both, name)
            parts.append(score(told, baseline="base_rate", group=f"{kind}, sides taken"))
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else empty(SCORES)


def _sessions_behind(run: Run, row: "pd.Series[Any]") -> int:
    """Count the sessions that had closed for good when the row was issued, and that it does not use."""
    return run.calendar.position(run.closed_by(row["issued_at"])) - run.calendar.position(row["as_of"])


def _model_card(champion: RegisteredModel) -> dict[str, str]:
    facts = read_metadata(champion.directory)
    horizons = known_horizons(champion.directory)
    ahead = {"horizons": describe_horizons([*horizons])} if len(horizons) > 1 else {}
    settings = facts["extra"]["settings"]
    return {
        "version": champion.model_version,
        **describe_model(facts),
        **ahead,
        "trained through": f"{champion.trained_through:%Y-%m-%d}",
        "members agree": describe_agreement(facts),
        **describe_calibration(facts),
        "dead zone": "none"
        if settings["labels"]["dead_zone"] == [0, 0]
        else str(settings["labels"]["dead_zone"]),
        **describe_engine(facts),
    }


def _named(champion: RegisteredModel) -> str:
    """Return what scores call a model."""
    kind: str = read_metadata(champion.directory)["extra"]["settings"]["model"]["kind"]
    return ModelConfig(kind=kind).name


def _settings_of(champion: RegisteredModel) -> dict[str, Any]:
    """Return the settings that a model was trained with; a key that came later had its default then."""
    settings: dict[str, Any] = read_metadata(champion.directory)["extra"]["settings"]
    try:
        return Config.model_validate(settings).resolved()
    except ValueError:  # of another nextday
        return settings


def _changed(run: Run, former: dict[str, Any], among: tuple[str, ...] = ()) -> str:
    names = [
        n for n, now in run.resolved["settings"].items() if former.get(n) != now and (not among or n in among)
    ]
    return ", ".join(f"[{name}]" for name in names)


def _notes(run: Run, standing: pd.DataFrame, champion: RegisteredModel, remarks: list[str]) -> list[str]:
    notes = [
        "The scores belong to the procedure, measured on sessions that no fit saw. The champion that forecasts here is "
        f"the same procedure fitted once more through {champion.trained_through:%Y-%m-%d}; its newest sessions serve "
        "early stopping and calibration."
    ]
    if unaudited := describe_missing_audit(run):
        notes.append(unaudited)
    if run.is_historical:
        notes.append(
            f"The source {run.source.name!r} is historical: its rows are late by nature and never live."
        )
    elif run.is_simulated:
        notes.append("This run was given a clock of its own, so its rows are late and never live.")
    old = standing[~standing["is_new"]]
    if len(old):
        notes.append(
            f"{len(old)} of {len(standing)} rows stood in the ledger before this run, issued "
            f"{old['issued_at'].min():%Y-%m-%d %H:%M}Z by model {old['model_version'].iloc[0]}: the first row of a "
            "forecast stands, whatever is run or configured later."
        )
    if lacking := sorted({*run.config.labels.horizons} - {*standing["horizon"]}):
        notes.append(_explain_lacking(lacking, champion))
    former = with_former_settings(run, str(_first(standing)["config_digest"])).resolved["settings"]
    if changed := _changed(run, former):
        notes.append(f"The settings have changed since those rows were issued: {changed}.")
    if untrained := _changed(run, _settings_of(champion), _OF_THE_MODEL):
        notes.append(
            f"The champion was trained with other settings ({untrained}): `nextday retrain` uses the new ones."
        )
    return notes + remarks


def _explain_lacking(horizons: list[int], champion: RegisteredModel) -> str:
    """Say why there is no forecast at some of the horizons that are asked for."""
    what = f"There is no forecast {describe_horizons(horizons)}"
    if {*horizons} - {*known_horizons(champion.directory)}:
        return f"{what}: the champion has not learned it. `nextday retrain` makes one that has."
    return f"{what}: the calendar does not reach so far. A newer release of exchange-calendars may."
