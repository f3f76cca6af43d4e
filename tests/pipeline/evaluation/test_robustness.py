import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.data_snooping import session_losses
from pipeline.evaluation.robustness import run_robustness_tests


def rows(sessions: int, skill: float, seed: int = 1) -> pd.DataFrame:
    """Return the forecasts of one that knows something, of one that repeats it, and of two that know nothing."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2015-01-05", periods=sessions + 1)
    up = rng.random((sessions, 4)) < 0.5
    told = np.where(rng.random(up.shape) < 0.5 + skill, up, ~up)
    p = {
        "gru": np.where(told, 0.5 + skill, 0.5 - skill),
        "base_rate": np.full(up.shape, 0.5),
        "always_up": np.full(up.shape, 0.501),
        "noise": 0.5 + 0.05 * rng.standard_normal(up.shape),
    }
    keys = pd.DataFrame(
        {
            "symbol": np.tile([*"ABCD"], sessions),
            "as_of": days[:-1].repeat(4),
            "target_session": days[1:].repeat(4),
            "horizon": 1,
            "outcome": up.ravel().astype(float),
        }
    )
    return pd.concat([keys.assign(model=name, p_up=each.ravel()) for name, each in p.items()])


def test_who_knows_something_passes_every_test_and_is_named() -> None:
    found = run_robustness_tests(rows(400, 0.08), model="gru", baseline="base_rate")
    said = found.sentences
    assert found.direction.p_value < 0.001
    assert "(one-sided p < 0.001 by whole sessions" in said["Pesaran and Timmermann"]
    assert found.ability is not None
    assert found.ability.p_value < 0.05
    assert "The best of 3 candidates in the test was gru" in said["superior predictive ability"]
    assert said["model confidence set"].endswith("among 1 of 4: gru.")


def test_a_model_without_skill_is_one_of_many_in_the_set() -> None:
    found = run_robustness_tests(rows(400, 0.0), model="gru", baseline="base_rate")
    assert np.isnan(found.direction.statistic)  # p is one half all along: no side to test
    assert "there is nothing to test" in found.sentences["Pesaran and Timmermann"]
    assert found.ability is not None
    assert found.ability.p_value > 0.05
    assert found.confidence is not None
    assert {"gru", "base_rate"} <= set(found.confidence.members)


@pytest.mark.parametrize("sessions", [1, 9])
def test_a_few_sessions_are_not_tested_and_nothing_is_claimed(sessions: int) -> None:
    found = run_robustness_tests(rows(sessions, 0.1), model="gru", baseline="base_rate")
    assert found.ability is None
    assert found.confidence is None
    assert list(found.sentences) == ["Pesaran and Timmermann"]
    assert "to estimate how many are needed" in found.size.sentence


def test_all_candidates_have_the_same_sessions() -> None:
    assert session_losses(rows(30, 0.1)).shape == (30, 4)
