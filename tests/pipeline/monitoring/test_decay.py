"""The decay alarm on records whose truth is known: calendars are real, outcomes are drawn."""

import math

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.verdict import BASE_RATE, judge
from pipeline.market.calendar import Calendar
from pipeline.monitoring.decay import ALPHA, DOUBTFUL, FEWEST, judge_decay, measure_floor
from pipeline.outputs import MAIN, Output, describe_output
from pipeline.statistics.e_process import merge_classes

RATE = 0.53
"""Base rate of all made records."""


@pytest.fixture(scope="module")
def five_years(xnys: Calendar) -> pd.DatetimeIndex:
    return xnys.sessions_between(pd.Timestamp("2014-01-02"), pd.Timestamp("2018-12-31"))


def make_record(
    days: pd.DatetimeIndex, p: np.ndarray, outcome: np.ndarray, output: Output = MAIN
) -> pd.DataFrame:
    """Return live rows of [session, symbol] probabilities and outcomes."""
    sessions, symbols = p.shape
    as_of = np.repeat(days[:sessions], symbols)
    return pd.DataFrame(
        {
            "symbol": np.tile([f"S{number}" for number in range(symbols)], sessions),
            "as_of": as_of,
            "issued_at": as_of.tz_localize("UTC") + pd.Timedelta(hours=22),
            "target": output.target,
            "horizon": output.horizon,
            "kind": "live",
            "model_version": "m",
            "p_up": p.ravel(),
            "baseline_p_up": RATE,
            "outcome": outcome.ravel(),
        }
    )


def draw(rng: np.random.Generator, sessions: int, symbols: int, *, spread: float, truth: float) -> tuple:  # type: ignore[type-arg]
    """Draw forecasts around the base rate and outcomes with a shock that the stocks of a session share.

    truth 1: the forecasts are calibrated; 0: the base rate is true; 0.5: neither is better, to second order.
    """
    signal = spread * rng.standard_normal((sessions, symbols)).clip(-3, 3)
    common, own = rng.standard_normal((sessions, 1)), rng.standard_normal((sessions, symbols))
    ranks = 0.5 * (1 + np.vectorize(math.erf)((0.5 * common + math.sqrt(0.75) * own) / math.sqrt(2)))
    return RATE + signal, (ranks < RATE + truth * signal).astype(float)


def test_too_few_live_sessions_say_nothing(five_years: pd.DatetimeIndex) -> None:
    p, outcome = draw(np.random.default_rng(0), FEWEST - 1, 5, spread=0.1, truth=0)
    decay = judge_decay(make_record(five_years, p, outcome), MAIN, {})
    assert (decay.state, decay.title, decay.evidence_text) == ("too early", "too early: 19 sessions", "")
    assert decay.sentence == f"{describe_output(MAIN)}: too early: 19 sessions"
    late = make_record(five_years, p, outcome).assign(kind="late")
    assert judge_decay(pd.concat([late] * 2), MAIN, {}).sessions == 0


def test_a_simulated_record_is_tested_like_a_live_one_and_never_called_live(
    five_years: pd.DatetimeIndex,
) -> None:
    p, outcome = draw(np.random.default_rng(1), 600, 40, spread=0.08, truth=0)
    live = make_record(five_years, p, outcome)
    late = live.assign(kind="late")
    simulated = judge_decay(late, MAIN, {}, is_simulated=True)
    assert (simulated.state, simulated.since) == ("decayed", judge_decay(live, MAIN, {}).since)
    assert simulated.evidence_text.startswith("600 simulated sessions, ")
    assert judge_decay(late, MAIN, {}).sessions == 0
    assert judge_decay(live, MAIN, {}, is_simulated=True).sessions == 0


def test_a_void_session_is_as_if_it_had_not_been_forecast(five_years: pd.DatetimeIndex) -> None:
    p, outcome = draw(np.random.default_rng(2), 60, 5, spread=0.1, truth=0)
    outcome[30] = np.nan
    record = make_record(five_years, p, outcome)
    is_closed = record["as_of"] == five_years[30]
    void = pd.Series(None, record.index, dtype="str").mask(is_closed, "closed")
    kept = judge_decay(record[~is_closed], MAIN, {})
    assert judge_decay(record.assign(void_reason=void), MAIN, {}) == kept
    assert judge_decay(record, MAIN, {}).evidence != kept.evidence


def test_forecasts_worse_than_the_base_rate_raise_the_alarm_and_it_stays(
    five_years: pd.DatetimeIndex,
) -> None:
    rng = np.random.default_rng(1)
    p, outcome = draw(rng, 600, 40, spread=0.08, truth=0)
    record = make_record(five_years, p, outcome)
    decay = judge_decay(record, MAIN, {})
    assert (decay.state, decay.against) == ("decayed", "base rate")
    assert decay.evidence >= 1 / ALPHA
    assert decay.since is not None
    assert decay.title == f"decayed since {decay.since:%Y-%m-%d}"
    # What comes later does not take it back, and nothing later moves it.
    until = judge_decay(record[record["as_of"] <= decay.since], MAIN, {})
    assert (until.state, until.since) == ("decayed", decay.since)
    before = judge_decay(record[record["as_of"] < decay.since], MAIN, {})
    assert (before.state, before.title, before.is_news) == ("doubtful", "doubtful", True)
    assert DOUBTFUL <= before.evidence < 1 / ALPHA
    assert (
        judge_decay(record.sample(frac=1, random_state=0), MAIN, {}) == decay
    )  # the order of rows is none of time
    good, right = draw(rng, 600, 40, spread=0.08, truth=1)
    after = make_record(five_years[600:], good, right)
    assert judge_decay(pd.concat([record, after]), MAIN, {}).since == decay.since


def test_an_accepted_alarm_begins_anew_with_the_forecasts_after_it(five_years: pd.DatetimeIndex) -> None:
    rng = np.random.default_rng(1)
    bad = make_record(five_years, *draw(rng, 600, 40, spread=0.08, truth=0))
    good = make_record(five_years[600:], *draw(rng, 300, 40, spread=0.08, truth=1))
    accepted = bad["issued_at"].max()
    decay = judge_decay(pd.concat([bad, good]), MAIN, {}, accepted_at=accepted)
    assert (decay.state, decay.sessions) == ("as expected", 300)


def test_forecasts_that_save_less_than_the_backtest_promised_are_found_though_they_beat_the_base_rate(
    five_years: pd.DatetimeIndex,
) -> None:
    p, outcome = draw(np.random.default_rng(2), 1200, 60, spread=0.06, truth=0.6)
    record = make_record(five_years, p, outcome)
    assert judge_decay(record, MAIN, {}).state == "as expected"
    decay = judge_decay(record, MAIN, {"m": 0.01})
    assert (decay.state, decay.against) == ("decayed", "backtest")
    assert decay.floor == pytest.approx(0.01)
    assert judge_decay(record, MAIN, {"m": math.nan}).state == "as expected"
    assert judge_decay(record, MAIN, {"another": 0.01}).state == "as expected"


@pytest.mark.parametrize("floor", [0.03, -0.03])
def test_the_evidence_is_that_of_what_each_session_saved_lacked_and_could_save_at_most(
    five_years: pd.DatetimeIndex, floor: float
) -> None:
    p, outcome = draw(np.random.default_rng(6), 80, 3, spread=0.1, truth=0.5)
    saved = np.log(np.where(outcome == 1, p / RATE, (1 - p) / (1 - RATE))).mean(axis=1)
    most = np.maximum(np.log(p / RATE), np.log((1 - p) / (1 - RATE)))
    base = merge_classes(-saved, most.mean(axis=1), horizon=1)
    backtest = merge_classes(floor - saved, np.maximum(most - floor, 0).mean(axis=1), horizon=1)
    decay = judge_decay(make_record(five_years, p, outcome), MAIN, {"m": floor})
    assert decay.evidence == pytest.approx(max(np.exp(each.log_e[-1]) for each in (base, backtest)) / 2)
    assert decay.against == ("backtest" if floor > 0 else "base rate")
    assert decay.saved == pytest.approx(saved.mean())


def test_one_session_is_one_observation_however_many_rows_it_has(five_years: pd.DatetimeIndex) -> None:
    p, outcome = draw(np.random.default_rng(3), 200, 1, spread=0.1, truth=0)
    one = judge_decay(make_record(five_years, p, outcome), MAIN, {})
    many = judge_decay(
        make_record(five_years, np.repeat(p, 50, axis=1), np.repeat(outcome, 50, axis=1)), MAIN, {}
    )
    assert many.evidence == pytest.approx(one.evidence)
    assert many.saved == pytest.approx(one.saved)


def test_rows_without_an_outcome_are_no_evidence(five_years: pd.DatetimeIndex) -> None:
    p, outcome = draw(np.random.default_rng(4), 100, 4, spread=0.1, truth=0)
    outcome[50:] = np.nan
    decay = judge_decay(make_record(five_years, p, outcome), MAIN, {})
    assert decay.sessions == 50
    half = judge_decay(make_record(five_years, p[:50], outcome[:50]), MAIN, {})
    assert decay.evidence == pytest.approx(half.evidence)


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_a_certain_forecast_that_is_wrong_is_finite_evidence(
    five_years: pd.DatetimeIndex, extreme: float
) -> None:
    p = np.full((60, 2), extreme)
    decay = judge_decay(make_record(five_years, p, 1 - p), MAIN, {})
    assert decay.state == "decayed"
    assert math.isfinite(decay.evidence)


def false_alarms(days: pd.DatetimeIndex, output: Output, *, runs: int, symbols: int) -> int:
    """Count the alarms over five years of forecasts that are exactly as good as the base rate, the edge of the null.

    Every forecast is 57%, and ups are as frequent as makes that as good as the base rate of 53%.
    """
    rng, alarms, high = np.random.default_rng(20), 0, RATE + 0.04
    edge = math.log((1 - RATE) / (1 - high)) / (math.log((1 - RATE) / (1 - high)) + math.log(high / RATE))
    for _ in range(runs):
        shocks = rng.standard_normal((len(days) + output.horizon, 1))
        common = sum(shocks[h : h + len(days)] for h in range(output.horizon)) / math.sqrt(output.horizon)
        latent = math.sqrt(0.4) * common + math.sqrt(0.6) * rng.standard_normal((len(days), symbols))
        outcome = (latent < _quantile(edge)).astype(float)
        record = make_record(days, np.full((len(days), symbols), high), outcome, output)
        alarms += judge_decay(record, output, {"m": 0.0}).state == "decayed"
    return alarms


def _quantile(probability: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(probability))


def theory(effect: float, independent: int) -> float:
    """Return the sessions after which a mean of so many standard deviations is found by the best constant stake.

    The logarithm of its capital grows by stake * effect - stake^2 / 2 per session (Kelly 1956), and the stake is at
    most three quarters of what may be lost: all stocks wrong, sqrt(independent) standard deviations. The alarm needs
    log(2 / ALPHA), and log 6 more for the half of the capital that begins at once, dealt to three stakes.
    """
    stake = min(effect, 0.75 / math.sqrt(independent))
    return math.log(2 / ALPHA * 6) / (stake * effect - stake**2 / 2)


@pytest.mark.parametrize("independent", [25, 100])
def test_two_lost_points_of_hit_rate_are_found_within_the_sessions_that_theory_says(
    five_years: pd.DatetimeIndex, independent: int
) -> None:
    """Hit rate 52% in the backtest, 50% live, of so many independent stocks: half the runs end within theory."""
    assert find_lost_edge(five_years, independent, runs=9) <= theory(lost_effect(independent), independent)


def lost_effect(independent: int) -> float:
    """Return the larger mean of the two tests after the loss, in standard deviations of a session.

    A forecast of 52% saves 2 * 0.02^2 nats if it is right and costs as much if the truth is 50%, with a standard
    deviation of 2 * 0.02 for each stock. The floor lies 1.96 standard errors of 504 sessions below the saving.
    """
    saving = 0.02 * math.sqrt(independent)
    return max(saving, 2 * saving - 1.96 / math.sqrt(504))


def find_lost_edge(days: pd.DatetimeIndex, independent: int, *, runs: int) -> float:
    """Return the median of the sessions until the alarm after the edge is lost; infinite where half find nothing."""
    rng, found = np.random.default_rng(independent), []
    for _ in range(runs):
        sides = rng.choice([-1.0, 1.0], (len(days), independent))
        record = make_record(days, 0.5 + 0.02 * sides, rng.integers(0, 2, sides.shape).astype(float))
        saving, error = 2 * 0.02**2, 0.04 / math.sqrt(independent) * 1.96 / math.sqrt(504)
        decay = judge_decay(record.assign(baseline_p_up=0.5), MAIN, {"m": saving - error})
        found.append(math.inf if decay.since is None else days.get_loc(decay.since) + 1)
    return float(np.median(found))


@pytest.mark.parametrize("output", [MAIN, Output("direction", 5)])
def test_false_alarms_over_five_years_are_rarer_than_promised(
    five_years: pd.DatetimeIndex, output: Output
) -> None:
    """The promise is 5%; of 100 records nine or more would be too many in one of 25 such tests."""
    assert false_alarms(five_years, output, runs=100, symbols=3) <= 8


def healthy_alarms(days: pd.DatetimeIndex, *, runs: int, symbols: int) -> int:
    """Count the alarms of records that are exactly as good as what their backtests of 504 sessions estimated."""
    rng, alarms = np.random.default_rng(21), 0
    for _ in range(runs):
        p, outcome = draw(rng, 504 + len(days), symbols, spread=0.03, truth=1)
        ratio = np.where(outcome[:504] == 1, p[:504] / RATE, (1 - p[:504]) / (1 - RATE))
        saved = np.log(ratio).mean(axis=1)
        floor = saved.mean() - 1.96 * saved.std() / math.sqrt(504)
        alarms += (
            judge_decay(make_record(days, p[504:], outcome[504:]), MAIN, {"m": floor}).state == "decayed"
        )
    return alarms


def test_healthy_records_raise_no_more_alarms_though_their_backtests_err(
    five_years: pd.DatetimeIndex,
) -> None:
    """One backtest in forty has a floor above the truth: that belongs to the promise of 5% too."""
    assert healthy_alarms(five_years, runs=60, symbols=5) <= 6


@pytest.mark.parametrize("output", [MAIN, Output("direction", 20)])
def test_the_floor_of_a_backtest_is_the_lower_end_of_its_interval_against_the_base_rate(
    five_years: pd.DatetimeIndex, output: Output
) -> None:
    p, outcome = draw(np.random.default_rng(5), 300, 10, spread=0.1, truth=1)
    own = make_record(five_years, p, outcome, output).assign(
        model="gru", target_session=lambda rows: rows["as_of"]
    )
    rows = pd.concat([own, own.assign(model=BASE_RATE, p_up=RATE)], ignore_index=True)
    verdict = judge(rows.assign(direction="up"), model="gru", baseline=BASE_RATE)
    floor = measure_floor(rows, "gru", BASE_RATE, output)
    assert floor == pytest.approx(verdict.low, rel=1e-9)
    assert 0 < floor < verdict.difference
    assert math.isnan(measure_floor(rows, "another", BASE_RATE, output))
    assert math.isnan(measure_floor(rows[rows["as_of"] < five_years[5]], "gru", BASE_RATE, output))


def test_the_limits_are_those_of_the_page() -> None:
    assert (ALPHA, DOUBTFUL, FEWEST) == (0.05, 5.0, 20)
