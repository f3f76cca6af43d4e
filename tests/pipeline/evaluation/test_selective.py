"""Which side a forecast takes, and how often it takes one."""

import io

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.scores import score
from pipeline.evaluation.selective import (
    ISSUED_SHARE,
    describe_base_rate,
    is_within_band,
    score_coverage,
    select_issued,
)
from pipeline.forecasting.forecast import choose_directions
from pipeline.report.tables import count_directions

SESSIONS = pd.bdate_range("2018-01-01", periods=200).as_unit("us")


def rows_of(p_up: np.ndarray, threshold: float = 0.0, model: str = "gru", seed: int = 0) -> pd.DataFrame:
    """Return the long frame of one model: p_up [session, symbol], outcomes as p_up says they come."""
    sessions, symbols = p_up.shape
    up = np.random.default_rng(seed).random(p_up.shape) < 0.53
    return pd.DataFrame(
        {
            "model": model,
            "symbol": np.tile([f"S{k}" for k in range(symbols)], sessions),
            "as_of": np.repeat(SESSIONS[:sessions], symbols),
            "target_session": np.repeat(SESSIONS[:sessions] + pd.Timedelta(days=1), symbols),
            "horizon": 1,
            "target": "direction",
            "p_up": p_up.ravel(),
            "direction": choose_directions(p_up.ravel(), threshold).to_numpy(),
            "outcome": up.ravel().astype(float),
        }
    )


def test_a_direction_is_issued_from_the_threshold_on_and_never_at_one_half() -> None:
    p_up = np.array([0.40, 0.44, 0.50, 0.55, 0.56, 0.60])
    assert choose_directions(p_up, 0.06).tolist() == ["down", "down", "none", "none", "up", "up"]
    assert choose_directions(p_up).tolist() == ["down", "down", "none", "up", "up", "up"]


def test_every_row_has_the_threshold_of_its_horizon() -> None:
    assert choose_directions(np.array([0.52, 0.52]), np.array([0.0, 0.03])).tolist() == ["up", "none"]


def test_the_direction_none_survives_a_csv() -> None:
    frame = pd.DataFrame({"direction": choose_directions(np.array([0.4, 0.5, 0.6])).astype(str)})
    assert pd.read_csv(io.StringIO(frame.to_csv(index=False))).equals(frame)


@pytest.mark.parametrize(
    ("directions", "words"),
    [
        (["up", "none", "up", "down", "none", "none"], "2 up, 1 down, 3 none"),
        (["up", "up"], "2 up"),
        (["none"] * 1200, "1,200 none"),
    ],
)
def test_directions_are_counted_in_words(directions: list[str], words: str) -> None:
    assert count_directions(pd.DataFrame({"direction": directions})) == words


def test_coverage_comes_with_its_target_n_and_an_interval() -> None:
    p_up = np.random.default_rng(1).beta(30, 28, (100, 10))
    rows = rows_of(p_up, threshold=0.03)
    rows.loc[::7, "outcome"] = np.nan
    (line,) = score_coverage(rows, model="gru", target=0.6).to_dict("records")
    labelled = rows[rows["outcome"].notna()]
    share = (labelled["p_up"] - 0.5).abs() >= 0.03
    assert (line["metric"], line["baseline"], line["baseline_value"]) == (ISSUED_SHARE, "target", 0.6)
    assert line["value"] == pytest.approx(share.mean())
    assert (line["n"], line["sessions"]) == (len(labelled), 100)
    # Rows are independent here, so the interval by sessions is that of a share.
    half = 1.96 * np.sqrt(share.mean() * (1 - share.mean()) / len(labelled))
    assert line["high"] - line["low"] == pytest.approx(2 * half, rel=0.3)


def test_directions_that_come_and_go_with_the_session_have_a_wider_interval() -> None:
    by_row = np.random.default_rng(1).choice([0.51, 0.56], (100, 10))
    by_session = np.repeat(by_row[:, :1], 10, axis=1)
    widths = [
        line["high"] - line["low"]
        for p_up in (by_row, by_session)
        for line in score_coverage(rows_of(p_up, 0.03), model="gru", target=0.5).to_dict("records")
    ]
    assert widths[1] > 2 * widths[0]


def test_a_model_is_compared_with_the_others_where_it_issues_a_direction() -> None:
    p_up = np.random.default_rng(1).beta(30, 28, (100, 10))
    both = pd.concat([rows_of(p_up, 0.05), rows_of(np.full_like(p_up, 0.53), model="base_rate")])
    issued = select_issued(both, "gru")
    confident = np.abs(p_up.ravel() - 0.5) >= 0.05
    assert issued.groupby("model").size().to_dict() == dict.fromkeys(("gru", "base_rate"), confident.sum())
    scores = score(issued, baseline="base_rate", group="sides taken", draws=50).set_index(["model", "metric"])
    outcome = both.loc[both["model"] == "gru", "outcome"].to_numpy()[confident]
    hit_rate = np.mean((p_up.ravel()[confident] > 0.5) == (outcome == 1))
    assert scores.loc[("gru", "hit_rate"), "value"] == pytest.approx(hit_rate)
    assert scores.loc[("base_rate", "hit_rate"), "value"] == pytest.approx(outcome.mean())
    assert scores.loc[("gru", "hit_rate"), "n"] == confident.sum()


def test_without_an_outcome_there_is_no_share() -> None:
    rows = rows_of(np.full((20, 2), 0.6)).assign(outcome=np.nan)
    assert score_coverage(rows, model="gru", target=0.6).empty


def tonight(*p_up: float, reach: float = 0.004, base: float = 0.506, threshold: float = 0.0) -> pd.DataFrame:
    """Return the forecasts of a session, each with a band of `reach` on both sides."""
    p = np.array(p_up)
    rows = {"p_up": p, "low": p - reach, "high": p + reach, "baseline_p_up": base}
    return pd.DataFrame(rows).assign(direction=choose_directions(p, threshold).to_numpy())


COVERAGE = (
    " With [calibration] coverage = 0.5 the next nextday retrain gives a direction to about half of the forecasts: the "
    "most confident ones."
)


def test_ups_beside_a_base_rate_of_ups_are_called_the_base_rate() -> None:
    rows = tonight(0.504, 0.507, 0.514)
    assert is_within_band(rows).tolist() == [True, True, False]
    said = (
        "All 3 directions are the base rate's (50.6%): without the model they would be the same. For 2 of 3 the base "
        "rate lies within the band (marked ≈): read that as no call."
    )
    assert describe_base_rate(rows, abstains=False) == said + COVERAGE
    assert describe_base_rate(rows, abstains=True) == said


def test_equal_forecasts_are_the_base_rate_and_coverage_cannot_tell_them_apart() -> None:
    rows = tonight(0.524, 0.524, reach=0.0, base=0.524 + 1e-9)
    assert is_within_band(rows).all()
    assert "All 2 directions are the base rate's (52.4%)" in describe_base_rate(rows, abstains=False)
    assert "coverage" not in describe_base_rate(rows, abstains=False)


def test_forecasts_with_calls_of_their_own_are_not_remarked_on() -> None:
    assert describe_base_rate(tonight(0.47, 0.53), abstains=False) == ""
    assert is_within_band(tonight(0.47, 0.53)).tolist() == [False, False]


def test_a_single_symbol_and_base_rates_that_differ_are_worded_so() -> None:
    rows = tonight(0.53, 0.47).assign(baseline_p_up=[0.52, 0.48])
    assert describe_base_rate(rows, abstains=True) == (
        "All 2 directions are the base rate's (48.0% to 52.0%): without the model they would be the same."
    )
    assert describe_base_rate(tonight(0.53), abstains=True) == (
        "The direction is the base rate's (50.6%): without the model it would be the same."
    )


def test_where_no_direction_is_issued_none_is_the_base_rates() -> None:
    rows = tonight(0.52, 0.53, threshold=0.1)
    assert describe_base_rate(rows, abstains=True) == ""
