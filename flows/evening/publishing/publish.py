"""Publish a nightly run: a tracked run in MLflow, artifacts in Prefect."""

import json

import pandas as pd
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.runtime.tracking import prefect_page, run_tags, tracking
from flows.training.verified_champion import Champion
from pipeline.evaluation.attributions import FILE
from pipeline.outputs import list_outputs, select_output
from pipeline.report.evening_markdown import summary_markdown
from pipeline.report.evening_report import Report
from pipeline.report.files import Paths
from pipeline.report.tables import forecast_rows
from pipeline.schema import DIRECTIONS
from pipeline.storage.files import write_text
from pipeline.tracking.mlflow_metrics import metric_prefix

__all__ = ["publish", "track"]

_MINUTES = 15
"""Far more than MLflow's database on the same disk or Prefect's server may take."""


@task("publish", timeout=_MINUTES * 60)
def publish(report: Report, paths: Paths) -> None:
    """Show the forecasts and the verdict as Prefect artifacts, and log where; outside a flow run do nothing."""
    if FlowRunContext.get() is None:
        return
    key = report.universe.replace("_", "-")
    title = f"{report.universe} for {report.target_session:%Y-%m-%d}"
    summary = create_markdown_artifact(
        summary_markdown(report, paths.html),
        key=f"nextday-{key}-summary",
        description=f"{title}: {report.verdict.title if report.verdict else 'not scored yet'}",
    )
    rows, symbols = forecast_rows(report), report.forecasts["symbol"].nunique()
    left_out = (
        f": the {len(rows):,} of {symbols:,} symbols farthest from the base rate"
        if len(rows) < symbols
        else ""
    )
    create_table_artifact(rows, key=f"nextday-{key}-forecasts", description=f"Forecasts of {title}{left_out}")
    if page := prefect_page(f"artifacts/artifact/{summary}"):
        log_line(f"in Prefect: {page}")


@task("track", timeout=_MINUTES * 60)
def track(run: Run, report: Report, paths: Paths, champion: Champion) -> None:
    """Track the nightly run in MLflow, once: counts, the ledger's head hash, the report.

    Args:
        run: The run.
        report: Its report.
        paths: The report's files.
        champion: The model that made the report's forecasts.

    Raises:
        NextdayError: MLflow failed.
    """
    forecasts, done = report.forecasts, paths.folder / "tracked.json"
    if done.exists() and not forecasts["is_new"].any():
        return
    written = [paths.forecast_csv, paths.scores_csv, paths.html, paths.folder / FILE]
    book = tracking(run)
    run_id = book.record_forecast(
        universe=run.name,
        run_name=f"{run.name} for {report.target_session:%Y-%m-%d}",
        tags=run_tags(run)
        | {
            "model_version": str(forecasts["model_version"].iloc[0]),
            "data_version": str(report.data_version),
            "config_digest": report.config_digest,
            "ledger_head": report.ledger_head,
            "kind": report.kind,
        },
        metrics={
            "forecasts": float(len(forecasts)),
            **_mean_p_up(forecasts),
            **_count_sides(forecasts),
            "data_coverage": report.covered / report.members,
            "coverage": report.covered / report.members,  # its former name, for one release
            "findings": float(len(report.findings)),
        },
        artifacts=[path for path in written if path.exists()],
    )
    if champion.trained_through == report.as_of:
        book.attach(champion.run_id, artifacts=[paths.html])
    write_text(done, json.dumps({"mlflow_run_id": run_id} | run_tags(run), indent=1) + "\n")


def _count_sides(forecasts: pd.DataFrame) -> dict[str, float]:
    """Return how many forecasts said what, by metric name."""
    said = {name for output in list_outputs(forecasts) for name in output.directions}
    return {
        f"said_{side}": float((forecasts["direction"] == side).sum()) for side in DIRECTIONS if side in said
    }


def _mean_p_up(forecasts: pd.DataFrame) -> dict[str, float]:
    """Return the mean forecast of each output, by metric name."""
    return {
        f"{metric_prefix('all', output)}mean_p_up": float(select_output(forecasts, output)["p_up"].mean())
        for output in list_outputs(forecasts)
    }
