"""Timing and picking are told apart on planted skills, against the better of the baselines, and never made up."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.errors import NextdayError
from pipeline.evaluation.timing_and_picking import LOOKS, find_best, judge_skills
from pipeline.evaluation.verdict import ENOUGH_SESSIONS, Skill, Verdict, judge
from pipeline.statistics import bootstrap, significance
from tests.pipeline.evaluation.test_ranking_scores import market
from tests.pipeline.evaluation.test_scores import stack

BASE_RATE_ONLY = pd.DataFrame({"horizon": 1, "skill": ["timing", "picking"], "baseline": "base_rate"})


def timed(sessions: int, symbols: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return keys with outcomes, and forecasts that know the chance of the whole session and nothing of a stock."""
    keys, _ = market(sessions, symbols, seed)
    rng = np.random.default_rng(seed)
    chance = 0.5 + 0.15 * rng.choice([-1, 1], sessions).repeat(symbols)
    return keys.assign(outcome=(rng.random(len(keys)) < chance).astype(float)), chance


def judged(rows: pd.DataFrame, best: pd.DataFrame = BASE_RATE_ONLY, **options: object) -> dict[str, Skill]:
    return {skill.name: skill for skill in judge_skills(rows, model="gru", best=best, draws=300, **options)}


def choose(timing: str, picking: str) -> pd.DataFrame:
    return BASE_RATE_ONLY.assign(baseline=[timing, picking])


def test_a_picker_and_a_timer_are_told_apart() -> None:
    keys, p = market(200, 20, seed=1, skill=0.2)
    picker = judged(stack(keys, gru=p, base_rate=0.52))
    assert (picker["timing"].conclusion, picker["picking"].conclusion) == ("none", "edge")
    keys, p = timed(200, 20, seed=2)
    timer = judged(stack(keys, gru=p + 1e-3 * np.random.default_rng(0).normal(size=len(p)), base_rate=0.5))
    assert (timer["timing"].conclusion, timer["picking"].conclusion) == ("edge", "none")


def test_the_wrong_way_round_is_worse() -> None:
    keys, p = market(200, 20, seed=3, skill=0.2)
    assert judged(stack(keys, gru=1 - p, base_rate=0.52))["picking"].conclusion == "worse"
    keys, p = timed(200, 20, seed=4)
    assert judged(stack(keys, gru=1 - p, base_rate=0.5))["timing"].conclusion == "worse"


def test_timing_by_pencil_is_what_the_session_means_save() -> None:
    """Two of three went up: the means 0.6 and 0.5 cost -(2 ln 0.6 + ln 0.4) / 3 and ln 2."""
    keys, _ = market(ENOUGH_SESSIONS, 3, seed=5)
    rows = stack(
        keys.assign(outcome=np.tile([1.0, 1.0, 0.0], ENOUGH_SESSIONS)),
        gru=np.tile([0.5, 0.6, 0.7], ENOUGH_SESSIONS),
        base_rate=np.tile([0.4, 0.5, 0.6], ENOUGH_SESSIONS),
    )
    expected = math.log(2) + (2 * math.log(0.6) + math.log(0.4)) / 3
    assert judged(rows)["timing"].value == pytest.approx(expected)


def test_picking_by_pencil_is_the_share_of_pairs_won() -> None:
    """The ups have 0.6 and 0.5, the downs 0.55, 0.5 and 0.4: of six pairs the first wins 3, the second 1 and ties 1."""
    keys, _ = market(ENOUGH_SESSIONS, 5, seed=6)
    rows = stack(
        keys.assign(outcome=np.tile([1.0, 1.0, 0.0, 0.0, 0.0], ENOUGH_SESSIONS)),
        gru=np.tile([0.6, 0.5, 0.55, 0.5, 0.4], ENOUGH_SESSIONS),
        base_rate=0.5,
    )
    assert judged(rows)["picking"].value == pytest.approx(4.5 / 6)


def test_the_numbers_are_those_of_scipy_and_of_the_test_on_sessions() -> None:
    keys, p = market(100, 8, seed=7, skill=0.2)
    found = judged(stack(keys, gru=p, base_rate=0.52), seed=5)["picking"]
    wins, pairs = [], []
    for _, rows in keys.assign(p=p).groupby("target_session"):
        ups, downs = (rows.loc[rows["outcome"] == y, "p"] for y in (1, 0))
        if len(ups) and len(downs):
            wins.append(stats.mannwhitneyu(ups, downs).statistic)
            pairs.append(len(ups) * len(downs))
    beyond = np.array(wins) - np.array(pairs) / 2
    test = significance.diebold_mariano(beyond)
    copies = bootstrap.resample_sessions(beyond, draws=300, seed=5)
    assert found.value == pytest.approx(sum(wins) / sum(pairs))
    assert (found.t_statistic, found.p_value) == pytest.approx((test.statistic, test.p_value))
    expected = bootstrap.percentile_interval((copies @ np.array(wins)) / (copies @ np.array(pairs, float)))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.sessions == len(wins) < 100


def test_the_best_baseline_is_the_one_that_was_best_in_that_skill() -> None:
    keys, p = market(80, 10, seed=8, skill=0.4)
    shock = keys.groupby("target_session")["outcome"].transform("mean").to_numpy()
    rows = stack(keys, base_rate=0.52, reversal_5=p, last_sign=0.45 + 0.1 * shock, reversal=1 - p)
    best = find_best(pd.concat([rows, rows.assign(horizon=5)])).set_index(["horizon", "skill"])["baseline"]
    for horizon in (1, 5):
        assert (best[horizon, "timing"], best[horizon, "picking"]) == ("last_sign", "reversal_5")
    few = market(80, 4, seed=8)[0]
    assert find_best(stack(few, base_rate=0.52, reversal=0.4))["baseline"].tolist()[1] == "base_rate"


def test_a_better_and_a_worse_baseline_are_named_as_such() -> None:
    keys, p = market(300, 20, seed=9, skill=0.3)
    noisy = p + 0.02 * np.random.default_rng(1).normal(size=len(p))
    rows = stack(keys, gru=noisy, base_rate=0.52, sharp=p, blind=1 - noisy)
    better = judged(rows, choose("base_rate", "sharp"))["picking"]
    assert better.conclusion == "edge"
    assert better.baseline_value > better.value
    assert better.difference == pytest.approx(better.value - better.baseline_value)
    assert "Best baseline in it before the test: sharp, 0." in better.sentence
    assert "; gru is worse (-0." in better.sentence
    assert "; gru is better (+0." in judged(rows, choose("base_rate", "blind"))["picking"].sentence
    assert (
        "neither clearly better nor worse"
        in judged(rows, choose("base_rate", "base_rate"))["timing"].sentence
    )


def test_each_fold_is_compared_with_its_own_best_baseline() -> None:
    keys, p = market(120, 10, seed=10, skill=0.3)
    first = np.arange(len(p)) < 600
    rows = stack(keys.assign(fold=np.where(first, 1, 2)), gru=p, base_rate=0.52, a=p, b=p)
    # Each is good in its own fold only.
    rows.loc[rows["model"] == "a", "p_up"] = np.where(first, p, 0.52)
    rows.loc[rows["model"] == "b", "p_up"] = np.where(first, 0.52, p)
    best = pd.concat([choose("base_rate", name).assign(fold=fold) for fold, name in ((1, "a"), (2, "b"))])
    found = judged(rows, best)
    assert found["picking"].baseline_value == pytest.approx(found["picking"].value)
    assert found["picking"].difference == 0
    assert found["picking"].baseline == "a in 1 of 2 folds, 1 other in the rest"
    assert found["timing"].baseline == "base_rate"


@pytest.mark.parametrize(("symbols", "outcome"), [(4, None), (8, 1.0)])
def test_where_nothing_can_be_picked_it_is_said_and_no_number_made_up(
    symbols: int, outcome: float | None
) -> None:
    keys, p = market(100, symbols, seed=11, skill=0.2)
    keys = keys if outcome is None else keys.assign(outcome=outcome)
    found = judged(stack(keys, gru=p, base_rate=0.52))["picking"]
    assert (found.conclusion, found.sessions) == ("too little data", 0)
    assert (
        found.sentence == "Picking: too little data; no session has 5 stocks with ups and downs among them."
    )
    assert all(math.isnan(each) for each in (found.value, found.low, found.t_statistic, found.difference))


@pytest.mark.parametrize("sessions", [1, 5, ENOUGH_SESSIONS - 1])
def test_one_session_too_few_is_too_little_data(sessions: int) -> None:
    keys, _ = market(sessions, 10, seed=12)
    keys = keys.assign(outcome=np.tile([1.0, 0.0], 5 * sessions))
    found = judged(stack(keys, gru=0.5 + 0.1 * (keys["outcome"] - 0.5), base_rate=0.5))
    for skill in found.values():
        assert skill.conclusion == "too little data"
        assert f"{ENOUGH_SESSIONS} are needed" in skill.sentence
        assert "nan" not in skill.sentence
    enough = market(5 * ENOUGH_SESSIONS - 1, 10, seed=12)[0].assign(horizon=5)
    longer = judged(stack(enough, gru=0.52, base_rate=0.5), BASE_RATE_ONLY.assign(horizon=5))
    assert longer["timing"].sentence.startswith("Timing, 5 sessions ahead: too little data")


def test_nothing_settled_yet_has_no_number() -> None:
    keys, p = market(3, 6, seed=13)
    for skill in judged(stack(keys.assign(outcome=np.nan), gru=p, base_rate=0.52)).values():
        assert skill.conclusion == "too little data"
        assert math.isnan(skill.value)


def test_forecasts_without_skill_that_equal_the_base_rate_are_none() -> None:
    keys, _ = market(100, 8, seed=14)
    found = judged(stack(keys, gru=0.52 * (1 - 3e-16), base_rate=0.52))
    assert [skill.conclusion for skill in found.values()] == ["none", "none"]
    assert (found["timing"].value, found["picking"].value) == (0, 0.5)


def test_two_looks_at_forecasts_without_skill_call_few_an_edge() -> None:
    edges = 0
    for seed in range(40):
        keys, p = market(150, 8, seed=300 + seed)
        found = judged(stack(keys, gru=p, base_rate=0.5), seed=seed)
        edges += any(skill.conclusion == "edge" for skill in found.values())
    # At 5% together: six or more of forty happen once in seventy.
    assert edges <= 5
    assert "5%" in LOOKS


def test_a_model_that_is_not_there_is_named() -> None:
    keys, p = market(60, 5, seed=15)
    with pytest.raises(NextdayError, match="no forecast by 'boosting'"):
        judged(stack(keys, gru=p, base_rate=0.52), choose("base_rate", "boosting"))
    with pytest.raises(NextdayError, match="no forecast by 'base_rate'"):
        judged(stack(keys, gru=p, a=0.52), choose("a", "a"))


def test_a_verdict_is_stored_with_its_skills_and_without_them_as_before() -> None:
    keys, p = market(100, 8, seed=16, skill=0.2)
    rows = stack(keys, gru=p, base_rate=0.52)
    bare = judge(rows, model="gru", baseline="base_rate", draws=50)
    whole = Verdict.from_json(json.loads(json.dumps(bare.to_json() | {"skills": []})))
    assert whole == bare
    old = {key: value for key, value in bare.to_json().items() if key != "skills"}
    assert Verdict.from_json(json.loads(json.dumps(old))) == bare
    skills = judge_skills(rows, model="gru", best=BASE_RATE_ONLY, draws=50)
    both = Verdict.from_json(
        json.loads(json.dumps(bare.to_json() | {"skills": [vars(each) for each in skills]}))
    )
    assert both.skills == skills
    assert both.sentences == [bare.sentence, *(each.sentence for each in skills)]
    assert both.conclusion == bare.conclusion
