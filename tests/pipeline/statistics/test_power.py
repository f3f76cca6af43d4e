"""How many sessions it takes, where the answer is known."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import norm

from pipeline.statistics.power import estimate_sample_size
from pipeline.statistics.significance import forecasts_needed

RNG = np.random.default_rng(23)


def calls(sessions: int, symbols: int, shared: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one call a session for all symbols, and outcomes that share so much of their variance."""
    session = np.arange(sessions).repeat(symbols)
    shock = RNG.normal(size=sessions)[session]
    z = math.sqrt(shared) * shock + math.sqrt(1 - shared) * RNG.normal(size=len(session))
    return RNG.choice([0.4, 0.6], sessions)[session], (z > 0).astype(float), session


def test_independent_forecasts_take_as_many_as_the_closed_form_says() -> None:
    found = estimate_sample_size(*calls(3000, 10, shared=0.0))
    assert 10 * found.needed == pytest.approx(forecasts_needed(0.52), rel=0.12)
    assert found.worth == pytest.approx(10, rel=0.12)
    assert (found.more, found.per_session) == (0, 10)


def test_sessions_that_move_as_one_take_as_many_sessions_as_forecasts() -> None:
    found = estimate_sample_size(*calls(2000, 10, shared=1.0))
    assert found.needed == pytest.approx(forecasts_needed(0.52), rel=0.12)
    assert found.more == found.needed - 2000
    assert found.worth == pytest.approx(1, rel=0.12)


def test_the_variance_is_that_of_a_hac_regression() -> None:
    p, y, session = calls(300, 6, shared=0.5)
    rates = ((p > 0.5) == (y == 1)).reshape(300, 6).mean(axis=1)
    other = sm.OLS(rates, np.ones(300)).fit(cov_type="HAC", cov_kwds={"maxlags": 5, "use_correction": False})
    z = norm.ppf(0.95) + norm.ppf(0.8)
    found = estimate_sample_size(p, y, session, hit_rate=0.53)
    assert found.needed == math.ceil(300 * other.bse[0] ** 2 * (z / 0.03) ** 2)


def test_the_sentence_has_the_number_and_what_a_session_is_worth() -> None:
    short = estimate_sample_size(*calls(120, 30, shared=0.36))
    more = round(short.more, 2 - len(str(short.more)))
    assert short.sentence == (
        f"About {more:,} more sessions are needed to distinguish a hit rate of 52% from 50% on this universe: "
        f"the 30 forecasts of a session are worth about {short.worth:.1f} independent ones."
    )
    enough = estimate_sample_size(*calls(1500, 30, shared=0.0))
    assert "No more than these 1,500 sessions are needed" in enough.sentence


def test_rows_without_a_direction_do_not_count() -> None:
    p, y, session = calls(100, 4, shared=0.2)
    silent = np.where(session < 50, 0.5, p)
    cut = estimate_sample_size(p[session >= 50], y[session >= 50], session[session >= 50])
    assert estimate_sample_size(silent, y, session) == cut


@pytest.mark.parametrize("sessions", [0, 1, 9])
def test_too_few_sessions_give_no_sample_size(sessions: int) -> None:
    found = estimate_sample_size(*calls(sessions, 3, shared=0.2))
    assert math.isnan(found.needed)
    assert math.isnan(found.more)
    assert found.sentence.startswith(f"Too few sessions ({sessions}) to estimate")
    assert math.isnan(estimate_sample_size(*calls(49, 3, shared=0.2), horizon=5).needed)
