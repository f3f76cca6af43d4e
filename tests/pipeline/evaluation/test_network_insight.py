"""What the network looks at, in tables and on the page."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import StoreError
from pipeline.evaluation.attributions import FILE, load_attributions, save_attributions, tabulate_attributions
from pipeline.evaluation.network_insight import Insight, load_insight, rate_importance, save_insight
from pipeline.outputs import MAIN
from pipeline.report.charts.insight import draw_importance, draw_sensitivity
from pipeline.report.evening_page import render
from tests.pipeline.report.test_files import EVIL, UNDRAWN, a_report, figures, forecasts, titles
from tests.support.made_sequences import directions

FEATURES = ("log_return_1", "range", "volume")


def an_insight(finding: str = "vanishing", horizons: tuple[int, ...] = (1,), **memory: Any) -> Insight:
    lags = np.arange(8)
    sensitivity = pd.concat(
        pd.DataFrame(
            {
                **output._asdict(),
                "member": member,
                "lag": lags,
                "norm": member * 0.5**lags,
            }
        )
        for output in directions(*horizons)
        for member in (1, 2)
    )
    known = {"half": 0, "most": 4, "decay": 0.5, "finding": finding, "lookback": 8} | memory
    gradients = [
        ("recurrent_1", "kernel", 1, 0.01),
        ("recurrent_1", "recurrent_kernel", 1, 0.02),
        ("logits", "bias", 1, 0.3),
    ]
    importance = {"rise": [3e-3, 1e-4, -1e-4], "low": [1e-3, -1e-4, -3e-4], "high": [5e-3, 3e-4, 1e-4]}
    return Insight(
        sensitivity=sensitivity,
        memory=pd.DataFrame([{**output._asdict(), **known} for output in directions(*horizons)]),
        gradients=pd.DataFrame(gradients, columns=["layer", "part", "member", "norm"]),
        importance=pd.DataFrame(
            {
                "feature": FEATURES,
                **importance,
                "n": 1006,
                "sessions": 504,
                **MAIN._asdict(),
                "part": "test",
            }
        ),
    )


def moved(*symbols: str, **columns: Any) -> pd.DataFrame:
    rows = forecasts(*symbols).assign(**columns)
    values = np.random.default_rng(3).normal(0, 0.01, (len(rows), 60, 3)).astype(np.float32)
    facts = pd.DataFrame(
        {"logit": 0.1, "baseline_logit": 0.13, "forecast_logit": 0.1, "sessions": 60}, rows.index
    )
    return tabulate_attributions(rows, values, FEATURES, facts)


def test_importance_has_the_mean_of_its_rows_and_an_interval_by_session() -> None:
    session = np.repeat(np.arange(200), 10)
    # Rows of one session are the same: 200 sessions tell as much as 200 rows, not as 2,000.
    rises = np.repeat(np.random.default_rng(1).normal(0, 1, (40, 200)), 10, axis=1)
    rises[7] += 0.5
    table = rate_importance(rises, session, tuple(f"n{number}" for number in range(40)), seed=1)
    assert table["feature"][0] == "n7"
    assert table["rise"].tolist() == pytest.approx(sorted(rises.mean(axis=1), reverse=True))
    assert (table["high"] - table["low"]).mean() == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.15)
    assert ((table["low"] < 0) & (table["high"] > 0)).sum() >= 33
    assert table["low"][0] > 0
    assert (table["n"] == 2000).all()
    assert (table["sessions"] == 200).all()


def test_rows_without_a_label_are_left_out_of_importance() -> None:
    rises = np.ones((1, 40))
    rises[:, ::2] = np.nan
    table = rate_importance(rises, np.repeat(np.arange(20), 2), ("only",), seed=1)
    assert table["n"].tolist() == [20]
    assert table["rise"].tolist() == [1.0]


def test_importance_over_too_few_sessions_has_no_interval_and_the_page_says_why() -> None:
    rises = np.random.default_rng(1).normal(0, 1, (3, 60))
    table = rate_importance(rises, np.arange(60), FEATURES, seed=1, horizon=20)
    assert table[["low", "high"]].isna().all(axis=None)
    short = table.assign(horizon=20, part="test")
    assert draw_importance(short).count("no interval: too few sessions") == 3
    page = render(a_report(insight=replace(an_insight(horizons=(20,)), importance=short), figures=UNDRAWN))
    assert "There is no interval: 60 sessions are too few for 20 sessions ahead." in page


def test_an_insight_is_kept_next_to_the_evaluation(tmp_path: Path) -> None:
    save_insight(tmp_path, an_insight())
    again = load_insight(tmp_path)
    assert again is not None
    for name in ("sensitivity", "memory", "gradients", "importance"):
        pd.testing.assert_frame_equal(
            getattr(again, name), getattr(an_insight(), name).reset_index(drop=True), check_dtype=False
        )


def test_an_evaluation_of_a_former_version_has_none(tmp_path: Path) -> None:
    assert load_insight(tmp_path) is None


@pytest.mark.parametrize("finding", ["vanishing", "exploding", "in between"])
def test_the_figure_names_what_the_gradients_do(finding: str) -> None:
    svg = draw_sensitivity(an_insight(finding))
    assert f"Sensitivity by lag: {finding}" in svg
    for mark in ("50% within 1", "95% within 5", "lookback 8"):
        assert mark in svg
    page = render(a_report(insight=an_insight(finding), figures=UNDRAWN))
    assert f"How far back it looks: {finding}" in page
    assert "last 5 sessions" in page


def test_a_blind_network_is_reported_as_blind() -> None:
    blind = an_insight("blind", half=0, most=0, decay=float("nan"))
    page = render(
        a_report(insight=replace(blind, sensitivity=blind.sensitivity.assign(norm=0.0)), figures=UNDRAWN)
    )
    assert "Nothing that the network reads moves its forecast" in page
    assert not {title for title in titles(page) if "Sensitivity" in title}


def test_importance_says_its_values_in_words() -> None:
    svg = draw_importance(an_insight().importance)
    assert "log_return_1 +3 (+1 to +5)" in svg


@pytest.mark.slow
def test_every_horizon_is_on_the_page() -> None:
    page = render(a_report(insight=an_insight(horizons=(1, 5)), figures=UNDRAWN))
    assert "How far back the network looks, by output" in page
    assert "by horizon" not in render(a_report(insight=an_insight(), figures=UNDRAWN))


def test_the_page_says_plainly_what_is_not_kept() -> None:
    page = render(a_report(figures=UNDRAWN))
    assert "looks at was not kept" in page
    assert "What moved each of these forecasts was not kept" in page


@pytest.mark.slow
def test_the_strongest_features_of_each_symbol_are_on_the_page() -> None:
    report = a_report("AAA", "BBB", attributions=moved("AAA", "BBB"), insight=an_insight())
    page = render(report)
    assert "What moved these forecasts" in page
    near = moved("AAA", "BBB")
    for _, rows in near.groupby("symbol"):
        assert rows["attribution"].abs().is_monotonic_decreasing
        for value in rows["attribution"]:
            assert f"{value:+.4f}" in page
    assert page == render(report)
    assert len(figures(page)) == len(figures(render(a_report("AAA", "BBB")))) + 2


@pytest.mark.slow
def test_forecasts_at_the_base_rate_are_not_reported_as_moved() -> None:
    plain = forecasts("AAA", p_up=0.53)
    page = render(a_report(forecasts=plain, attributions=moved("AAA"), figures=UNDRAWN))
    assert "Calibration gave the model no credit" in page
    assert "Calibration gave the model no credit" not in render(
        a_report("AAA", attributions=moved("AAA"), figures=UNDRAWN)
    )


def test_names_from_outside_are_escaped() -> None:
    page = render(
        a_report(EVIL, attributions=moved(EVIL).assign(feature=EVIL), insight=an_insight(), figures=UNDRAWN)
    )
    assert "<script>alert" not in page


def test_the_columns_by_lag_add_up_to_the_attribution() -> None:
    made = moved("AAA", "BBB")
    by_lag = made[[name for name in made.columns if name.startswith("lag_")]]
    assert by_lag.sum(axis=1).to_numpy() == pytest.approx(made["attribution"].to_numpy(), abs=1e-5)
    assert by_lag.columns.tolist() == [
        "lag_0", "lag_1", "lag_2_4", "lag_5_9", "lag_10_19", "lag_20_39", "lag_40_up"
    ]  # fmt: skip


def test_attributions_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    made = moved("AAA", "=BBB", "NA")
    save_attributions(tmp_path, made)
    again = load_attributions(tmp_path, forecasts("AAA", "=BBB", "NA"))
    pd.testing.assert_frame_equal(again, made, check_dtype=False)
    assert "\n'=BBB" not in (tmp_path / FILE).read_text()
    assert ",'=BBB," in (tmp_path / FILE).read_text()


def test_only_attributions_of_the_official_forecasts_are_loaded(tmp_path: Path) -> None:
    save_attributions(tmp_path, moved("AAA"))
    first = (tmp_path / FILE).read_text()
    save_attributions(tmp_path, moved("AAA").assign(attribution=9.0))
    assert (tmp_path / FILE).read_text() == first
    save_attributions(tmp_path, moved("AAA", "BBB", data_version=8))
    standing = pd.concat([forecasts("AAA"), forecasts("BBB", data_version=8)])
    told = load_attributions(tmp_path, standing).drop_duplicates("symbol")
    assert told[["symbol", "data_version"]].to_numpy().tolist() == [["AAA", 7], ["BBB", 8]]
    assert load_attributions(tmp_path, forecasts("AAA", model_version="gru-2")).empty


def test_no_file_is_nothing_kept_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert load_attributions(tmp_path, forecasts("AAA")).empty
    (tmp_path / FILE).write_text("not,a,table\n1,2,3\n")
    with pytest.raises(StoreError, match="The attributions of the forecasts cannot be read"):
        load_attributions(tmp_path, forecasts("AAA"))
