"""The numbers of the record: what a pencil gives, of live, late and backtest rows apart."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.outputs import MAIN, Output
from pipeline.report.site.record import measure_parts, score_symbols
from tests.support.made_site import a_record, a_site_report

SYMBOLS = [f"S{number}" for number in range(8)]


def test_live_late_and_backtest_are_measured_apart() -> None:
    report = a_site_report(SYMBOLS, 60, late=20)
    parts = {part.kind: part for part in measure_parts(report)}
    assert [*parts] == ["backtest", "live", "late"]
    record = report.record[report.record["outcome"].notna()]
    for kind in ("live", "late"):
        own = record[record["kind"] == kind]
        assert parts[kind].verdict.n == len(own)
        assert parts[kind].verdict.sessions == own["as_of"].nunique()
        assert parts[kind].first == own["target_session"].min()
        assert parts[kind].calibration["n"].sum() == len(own)
    assert parts["live"].verdict.n + parts["late"].verdict.n == len(record)
    assert parts["backtest"].verdict.n == 240


def test_timing_and_picking_of_the_backtest_are_those_that_the_report_tells() -> None:
    report = a_site_report(SYMBOLS, 60)
    backtest, live = measure_parts(report)
    assert report.verdict is not None
    assert backtest.skills != live.skills
    told = replace(report, verdict=replace(report.verdict, skills=live.skills))
    assert measure_parts(told)[0].skills == live.skills


def test_challengers_rows_are_in_no_number() -> None:
    """The record of a report holds champions only: what the ledger keeps of challengers has another role."""
    report = a_site_report(SYMBOLS, 30)
    assert set(report.record["role"]) == {"champion"}
    live = next(part for part in measure_parts(report) if part.kind == "live")
    assert live.verdict.n == 29 * len(SYMBOLS)


def test_the_log_loss_saved_is_what_a_pencil_gives() -> None:
    report = a_site_report(SYMBOLS, 80)
    live = next(part for part in measure_parts(report) if part.kind == "live")
    rows = report.record[report.record["outcome"].notna()]
    p, b, y = (rows[name].to_numpy() for name in ("p_up", "baseline_p_up", "outcome"))
    won = np.where(y == 1, np.log(p / b), np.log((1 - p) / (1 - b)))
    by_session = pd.Series(won).groupby(rows["target_session"].to_numpy()).mean()
    np.testing.assert_allclose(live.saved["saved"], by_session, atol=1e-12)
    np.testing.assert_allclose(live.saved["total"], by_session.cumsum(), atol=1e-12)
    assert live.verdict.difference == pytest.approx(by_session.mean())
    np.testing.assert_allclose(
        live.saved["mean"].dropna(), by_session.rolling(60).mean().dropna(), atol=1e-12
    )
    assert live.saved["session"].tolist() == by_session.index.tolist()
    assert live.score("hit_rate")["value"] == pytest.approx(np.mean((p > 0.5) == (y == 1)))  # type: ignore[index]
    assert live.score("hit_rate", of_base_rate=True)["value"] == pytest.approx(y.mean())  # type: ignore[index]


def test_with_few_sessions_there_is_no_band() -> None:
    report = a_site_report(SYMBOLS, 8)
    live = next(part for part in measure_parts(report) if part.kind == "live")
    assert live.saved["chance"].isna().all()
    assert live.saved["mean"].isna().all()
    assert live.verdict.conclusion == "not enough data"


def test_each_output_has_a_record_of_its_own() -> None:
    outputs = (MAIN, Output("relative", 1), Output("direction", 5))
    report = a_site_report(SYMBOLS, 40, outputs=outputs, record=a_record(SYMBOLS, 40, outputs=outputs))
    parts = measure_parts(report)
    assert [(part.output, part.kind) for part in parts] == [
        (MAIN, "backtest"), (MAIN, "live"), (Output("direction", 5), "live"), (Output("relative", 1), "live"),
    ]  # fmt: skip
    assert [part.verdict.sessions for part in parts[1:]] == [39, 35, 39]
    assert [skill.name for skill in parts[-1].skills] == ["picking"]


def test_each_symbol_is_scored_by_its_own_rows_and_kind() -> None:
    report = a_site_report(SYMBOLS, 90, late=10)
    scores = score_symbols(report, report.record["symbol"])
    settled = report.record[report.record["outcome"].notna()]
    for kind, sessions in (("late", 10), ("live", 79)):
        own = scores[(scores["kind"] == kind) & (scores["metric"] == "hit_rate")].set_index("group")
        assert own["n"].tolist() == [sessions] * len(SYMBOLS)
        rows = settled[(settled["kind"] == kind) & (settled["symbol"] == "S3")]
        is_right = (rows["p_up"] > 0.5) == (rows["outcome"] == 1)
        assert own.loc["S3", "value"] == pytest.approx(is_right.mean())
    assert scores[scores["kind"] == "late"]["p_value"].isna().all()  # ten sessions are too few to test


def test_a_renamed_listing_keeps_its_rows() -> None:
    report = a_site_report(["FB", "MSFT"], 30)
    scores = score_symbols(report, report.record["symbol"].replace("FB", "META"))
    assert set(scores["group"]) == {"META", "MSFT"}


def test_a_record_without_an_outcome_has_no_part() -> None:
    report = a_site_report(SYMBOLS, 1)
    assert [part.kind for part in measure_parts(report)] == ["backtest"]
    assert score_symbols(report, report.record["symbol"]).empty
