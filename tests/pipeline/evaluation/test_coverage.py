"""The coverage curve: against a plain loop, against a truth that is known, and on what has ties or nothing."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.scores import score
from pipeline.evaluation.selective import (
    COVERAGES,
    AchievedCoverage,
    measure_achieved_coverage,
    score_coverage,
    trace_curve,
)
from pipeline.report.charts.coverage import draw_curve
from pipeline.report.coverage_tables import collect_curves, curve_cells
from pipeline.report.evening_page import render
from tests.pipeline.evaluation.test_selective import rows_of
from tests.pipeline.report.test_files import a_report, scored, told, verdict
from tests.support.made_sequences import directions

RNG = np.random.default_rng(2)


def baseline_of(rows: pd.DataFrame, p_up: float = 0.53) -> pd.DataFrame:
    return rows.assign(model="base_rate", p_up=p_up)


def knowing(symbols: int = 20) -> pd.DataFrame:
    """Return rows whose outcomes come with the probability that is said."""
    p_up = RNG.uniform(0.3, 0.7, (100, symbols))
    rows = rows_of(p_up)
    return rows.assign(outcome=(RNG.random(len(rows)) < rows["p_up"]).astype(float))


def test_the_points_are_those_of_a_loop_over_the_surest_rows() -> None:
    rows = knowing()
    curve = trace_curve(rows, baseline_of(rows), draws=20)
    assert curve["coverage"].tolist() == pytest.approx(COVERAGES)
    order = (rows["p_up"] - 0.5).abs().sort_values(ascending=False).index
    for point in curve.to_dict("records"):
        surest = rows.loc[order[: round(point["coverage"] * len(rows))]]
        hits = (surest["p_up"] > 0.5) == (surest["outcome"] == 1)
        assert point["hit_rate"] == pytest.approx(hits.mean())
        assert point["baseline_rate"] == pytest.approx(surest["outcome"].mean())
        assert point["confidence"] == pytest.approx((surest["p_up"] - 0.5).abs().min())
        assert (point["n"], point["sessions"]) == (len(surest), surest["target_session"].nunique())


def test_probabilities_that_come_true_give_the_curve_that_they_promise() -> None:
    rows = knowing(symbols=200)
    curve = trace_curve(rows, baseline_of(rows), draws=500)
    # |p - 0.5| is uniform on [0, 0.2]: the surest share c has the mean 0.2 (1 - c / 2).
    promised = 0.5 + 0.2 * (1 - curve["coverage"] / 2)
    inside = (curve["low"] <= promised) & (promised <= curve["high"])
    assert inside.mean() >= 0.8
    assert curve["hit_rate"].to_numpy() == pytest.approx(promised.to_numpy(), abs=0.02)


def test_the_band_is_that_of_a_share_where_rows_are_independent() -> None:
    rows = knowing(symbols=50)
    whole = trace_curve(rows, baseline_of(rows)).iloc[-1]
    half = 1.96 * np.sqrt(whole["hit_rate"] * (1 - whole["hit_rate"]) / len(rows))
    assert whole["high"] - whole["low"] == pytest.approx(2 * half, rel=0.3)


def test_sessions_that_move_as_one_widen_the_band() -> None:
    rows = knowing()
    first = rows.groupby("target_session")["outcome"].transform("first")
    widths = [
        (curve["high"] - curve["low"]).iloc[-1]
        for outcome in (rows["outcome"], first)
        for curve in [trace_curve(rows.assign(outcome=outcome, p_up=0.6), baseline_of(rows))]
    ]
    assert widths[1] > 2 * widths[0]


def test_a_constant_probability_has_a_level_curve() -> None:
    rows = rows_of(np.full((100, 10), 0.53))
    curve = trace_curve(rows, baseline_of(rows))
    assert curve["hit_rate"].to_numpy() == pytest.approx(np.full(len(COVERAGES), rows["outcome"].mean()))
    assert curve["n"].tolist() == [round(share * 1000) for share in COVERAGES]


def test_rows_without_a_direction_end_the_curve_below_full_coverage() -> None:
    p_up = np.full((100, 10), 0.5)
    p_up[:, :4] = 0.6
    rows = rows_of(p_up)
    curve = trace_curve(rows, baseline_of(rows))
    assert curve["coverage"].iloc[-1] == pytest.approx(0.4)
    silent = rows_of(np.full((100, 10), 0.5))
    assert trace_curve(silent, baseline_of(silent)).empty


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = knowing()
    mixed = rows.sample(frac=1, random_state=1)
    expected = trace_curve(rows, baseline_of(rows))
    pd.testing.assert_frame_equal(trace_curve(mixed, baseline_of(rows)), expected)


def test_the_target_is_marked_in_the_figure_and_in_the_table() -> None:
    rows = knowing()
    said = AchievedCoverage(0.33, 0.31, 0.28, 0.35, 2000, 100, tied=0.0)
    curve = trace_curve(rows, baseline_of(rows), marked=(said.target, said.coverage))
    cells = curve_cells(curve, said)
    assert [cell["coverage"] for cell in cells] == ["5%", "10%", "20%", "33%", "40%", "60%", "80%", "100%"]
    assert [cell["mark"] for cell in cells].index("target") == 3
    svg = draw_curve(curve, "base_rate", said)
    assert "The target coverage is 33.0%, the achieved one 31.0%." in svg
    assert "target" in "".join(
        ElementTree.fromstring(svg.replace("<svg", '<svg xmlns:xlink="x"', 1)).itertext()
    )
    assert "target" not in draw_curve(curve, "base_rate")


def abstaining(threshold: float = 0.02) -> dict[str, object]:
    rows = pd.concat([told("gru", 1), told("base_rate", 2)])
    rows.loc[(rows["model"] == "gru") & ((rows["p_up"] - 0.5).abs() < threshold), "direction"] = "none"
    share = score_coverage(rows, model="gru", target=0.6)
    return {"test_rows": rows, "scores": pd.concat([scored(), share, scored("sides taken")])}


@pytest.mark.slow
def test_the_page_has_the_target_and_the_achieved_coverage() -> None:
    page = render(a_report(**abstaining()))
    rows = abstaining()["test_rows"]
    own = rows[rows["model"] == "gru"]  # type: ignore[index]
    share = (own["direction"] != "none").mean()
    assert "Target: a direction for 60.0% of the forecasts." in page
    assert f"the model issued a direction for {share:.1%} (95% interval" in page
    assert re.search(r'<th scope="row">60% <span class="under">target</span></th>', page)
    assert "gru, backtest, rows with a direction" in page
    row = re.search(r'title="[^"]*">directions issued</th>(.*?)</tr>', page)
    assert row
    assert re.sub(r"<[^>]+>", " ", row[1]).split()[-5:] == ["target", "–", "240", "234", "120"]


@pytest.mark.parametrize("sessions", [60, 200])
def test_the_curve_has_an_interval_only_where_the_score_of_the_same_rows_has_one(sessions: int) -> None:
    rng = np.random.default_rng(3)
    rows = rows_of(rng.uniform(0.4, 0.6, (sessions, 5))).assign(horizon=20)
    rows["outcome"] = rng.integers(0, 2, len(rows)).astype(float)
    both = pd.concat([rows, baseline_of(rows)])
    curve = trace_curve(rows, baseline_of(rows))
    scores = score(both, baseline="base_rate").set_index(["model", "metric"])
    hit_rate, whole = scores.loc[(str(rows["model"].iloc[0]), "hit_rate")], curve.iloc[-1]
    assert whole["hit_rate"] == hit_rate["value"]
    assert np.isnan(hit_rate["low"]) == np.isnan(whole["low"]) == np.isnan(whole["high"]) == (sessions < 200)
    assert (curve["low"].isna() == (curve["sessions"] < 200)).all()
    cell = curve_cells(curve, horizon=20)[-1]["interval"]
    if sessions < 200:
        assert cell == "– (under 200 sessions)"
        assert "nan" not in draw_curve(curve, "base_rate")
    share = score_coverage(rows, model=str(rows["model"].iloc[0]), target=0.6)
    assert share["low"].isna().all() == (sessions < 200)


@pytest.mark.slow
def test_without_abstention_the_curve_stands_alone() -> None:
    page = render(a_report())
    assert "Are the most confident forecasts right more often?" in page
    assert "Target: a direction" not in page
    assert "target</span>" not in page


@pytest.mark.slow
def test_a_model_without_any_direction_has_no_curve() -> None:
    rows = pd.concat([told("gru", 1), told("base_rate", 2)]).assign(p_up=0.5, direction="none")
    page = render(a_report(test_rows=rows, verdict=replace(verdict(), difference=0.0)))
    assert "Are the most confident" not in page


def test_a_model_that_never_abstains_has_no_achieved_coverage() -> None:
    assert measure_achieved_coverage(scored(), told("gru", 1), model="gru") is None


@pytest.mark.slow
def test_tied_forecasts_get_a_direction_together_and_the_page_says_so() -> None:
    rows = pd.concat([told("gru", 1).assign(p_up=0.53, direction="up"), told("base_rate", 2)])
    share = score_coverage(rows, model="gru", target=0.6)
    page = render(a_report(test_rows=rows, scores=pd.concat([scored(), share])))
    assert "issued a direction for 100.0% (" in page
    assert "100.0% of the rows have exactly the lowest confidence that reaches the threshold" in page
    assert "have exactly the lowest confidence" not in render(a_report(**abstaining()))


@pytest.mark.slow
def test_each_horizon_has_its_own_curve_baseline_and_target() -> None:
    rows = abstaining()["test_rows"]
    both = pd.concat([rows, rows.assign(horizon=5)])  # type: ignore[call-overload, union-attr]
    share = [score_coverage(both[both["horizon"] == h], model="gru", target=0.6) for h in (1, 5)]
    other = replace(verdict(), baseline="always_up")
    always_up = both[both["model"] == "base_rate"].assign(model="always_up")
    near, far = collect_curves(
        pd.concat([both, always_up]),
        pd.concat(share),
        dict(zip(directions(1, 5), (verdict(), other), strict=True)),
    )
    assert (near.key, near.about, near.baseline) == ("coverage", "", "base_rate")
    assert (far.key, far.about, far.baseline) == ("coverage_5", "5 sessions ahead", "always_up")
    assert near.achieved
    assert far.achieved
    assert far.achieved.coverage == near.achieved.coverage
    assert "Hit rate by coverage, 5 sessions ahead" in far.draw()
    page = render(
        a_report(
            test_rows=pd.concat([both, always_up]),
            scores=pd.concat([scored(), *share]),
            further={directions(5)[0]: other},
        )
    )
    assert "Are the most confident forecasts right more often, 5 sessions ahead?" in page
