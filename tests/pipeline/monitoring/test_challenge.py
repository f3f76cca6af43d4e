"""Champion and challenger on the same forecasts, and when the challenger takes over."""

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring.challenge import AGE, BETTER, Comparison, compare, decide, pair_sessions
from pipeline.promotion_config import PromotionConfig

DAYS = pd.date_range("2024-01-01", periods=80)
RULE = PromotionConfig()


def rows(p_up: np.ndarray, outcome: np.ndarray | None = None, symbols: str = "AB") -> pd.DataFrame:
    """Return rows of the sessions of p_up [session] for each symbol."""
    outcome = np.ones(len(p_up)) if outcome is None else outcome
    parts = [
        pd.DataFrame(
            {
                "symbol": symbol,
                "as_of": DAYS[: len(p_up)],
                "target_session": DAYS[: len(p_up)] + pd.Timedelta(days=1),
                "horizon": 1,
                "target": "direction",
                "p_up": p_up,
                "outcome": outcome,
            }
        )
        for symbol in symbols
    ]
    return pd.concat(parts, ignore_index=True)


def compared(**values: float) -> Comparison:
    return Comparison(
        **{
            "shadow": 30,
            "held_out": 0,
            "saved": 0.0,
            "shadow_saved": 0.01,
            "low": 0.0,
            "high": 0.0,
            "better": 1.0,
            "worse": 1.0,
        }
        | values
    )  # type: ignore[arg-type]


def test_a_session_is_the_mean_of_the_rows_that_both_forecast() -> None:
    champion = rows(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    challenger = rows(np.array([0.6, 0.6]), symbols="A")  # it knows no B
    paired = pair_sessions(champion, challenger)
    assert paired["saved"].tolist() == pytest.approx([np.log(0.6 / 0.5), np.log(0.4 / 0.5)])
    assert paired["bound"].tolist() == pytest.approx([np.log(0.5 / 0.4)] * 2)


def test_a_row_without_an_outcome_saves_nothing_and_changes_no_bound() -> None:
    champion, challenger = rows(np.array([0.5, 0.5]), np.array([1.0, np.nan])), rows(np.array([0.6, 0.6]))
    paired = pair_sessions(champion, challenger)
    assert paired["saved"].tolist() == pytest.approx([np.log(0.6 / 0.5), 0])
    assert paired["bound"].tolist() == pytest.approx([np.log(0.5 / 0.4)] * 2)


def test_a_session_counts_once_all_its_rows_are_settled() -> None:
    champion = rows(np.array([0.5, 0.5]), np.array([1.0, 1.0]))
    settled = pd.Series(pd.Timestamp("2024-02-01"), champion.index).mask(champion.index == 1)
    challenger = rows(np.array([0.6, 0.6]))
    assert pair_sessions(champion.assign(settled_at=settled), challenger)["as_of"].tolist() == [DAYS[0]]


def test_a_void_forecast_is_no_shadow_session() -> None:
    champion = rows(np.array([0.5, 0.5]), np.array([1.0, np.nan]))
    void = pd.Series(None, champion.index, dtype="str").mask(champion["as_of"] == DAYS[1], "closed")
    settled = champion.assign(settled_at=pd.Timestamp("2024-02-01"), void_reason=void)
    assert pair_sessions(settled, rows(np.array([0.6, 0.6])))["as_of"].tolist() == [DAYS[0]]


def test_the_better_one_has_the_evidence_and_the_other_way_round() -> None:
    p, up = np.full(80, 0.5), np.ones(80)
    paired = pair_sessions(rows(p, up), rows(p + 0.05))
    found = compare(paired[:0], paired)
    assert found.shadow == 80
    assert found.saved == pytest.approx(np.log(0.55 / 0.5))
    assert found.low <= found.saved <= found.high
    assert found.better > 20 > 1 > found.worse
    swapped = compare(paired[:0], pair_sessions(rows(p + 0.05, up), rows(p)))
    assert swapped.worse > 20


def test_equal_forecasts_tell_nothing_and_count_as_sessions() -> None:
    paired = pair_sessions(rows(np.full(40, 0.5)), rows(np.full(40, 0.5)))
    found = compare(paired[:0], paired)
    assert (found.shadow, found.better, found.worse) == (40, 1.0, 1.0)
    assert "nothing to compare yet" in found.figures


def test_held_out_sessions_bring_evidence_and_no_shadow_session() -> None:
    paired = pair_sessions(rows(np.full(80, 0.5)), rows(np.full(80, 0.55)))
    found = compare(paired, paired[:0])
    assert (found.shadow, found.held_out) == (0, 80)
    assert found.better > 20
    assert decide(found, RULE, age=500, own_age=1).reason == ""


def test_farther_ahead_only_sessions_that_do_not_overlap_bet() -> None:
    paired = pair_sessions(rows(np.full(80, 0.5)), rows(np.full(80, 0.55)))
    assert compare(paired[:0], paired, horizon=5).better < compare(paired[:0], paired).better


@pytest.mark.parametrize(
    ("values", "age", "reason"),
    [
        ({"better": 19.9}, 10, ""),
        ({"better": 20.1}, 10, BETTER),
        ({"better": 20.1, "shadow_saved": -0.01}, 10, ""),
        ({"better": 500.0, "shadow": 19}, 500, ""),
        ({}, 63, ""),
        ({}, 64, AGE),
        ({"worse": 2.5}, 64, ""),
        ({"shadow": 19}, 64, ""),
    ],
)
def test_who_takes_over(values: dict[str, float], age: int, reason: str) -> None:
    decided = decide(compared(**values), RULE, age=age, own_age=10)
    assert decided.reason == reason
    assert decided.sentence


def test_an_old_challenger_replaces_nothing_for_its_age() -> None:
    assert decide(compared(), RULE, age=200, own_age=63).reason == AGE
    assert decide(compared(), RULE, age=200, own_age=64).reason == ""


def test_by_hand_only_means_that_nothing_is_promoted() -> None:
    rule = PromotionConfig(rule="never")
    assert decide(compared(better=1e6), rule, age=5000, own_age=1).reason == ""
