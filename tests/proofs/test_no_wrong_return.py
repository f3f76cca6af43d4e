"""Actions and units through holes, nulls, faults and outages: no return is invented, none is lost, nobody is stuck."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import SourceError
from tests.support import street as street_module
from tests.support.made_market import make_stock
from tests.support.street import Street, assert_true, rules
from tests.support.yahoo_market import Broken, Quirk, Stock
from tests.support.yahoo_quirks import Missing, Null, Replaced, Rescaled, Unadjusted

pytestmark = pytest.mark.slow

street = street_module.street

OTHERS = ("B", "C", "D", "E")
ACTED, NEXT = "2018-10-10", "2018-10-11"


def opened(street: Street, *quirks: Quirk, **actions: dict) -> Stock:  # type: ignore[type-arg]
    """Open the street with a listing A of these actions and quirks; return it."""
    sessions = street.days.sessions_between(pd.Timestamp(street.first), pd.Timestamp("2018-12-31"))
    street.opens(*OTHERS, A=make_stock(street.days, sessions, 9, **actions).with_quirks(*quirks))
    return street.server.stocks["A"]


def live(street: Street, first: str, last: str) -> None:
    for session in street.sessions(first, last):
        street.evening(session)


@pytest.mark.proof
@pytest.mark.parametrize("lost", [Null, Missing])
def test_an_action_stays_with_the_bar_that_carries_it_when_that_opens_the_window(
    street: Street, lost: type[Null | Missing]
) -> None:
    stock = opened(street, lost(ACTED), splits={ACTED: (2, 1)}, payouts={"2018-10-17": 0.03})
    live(street, "2018-10-08", "2018-11-12")
    bars = street.bars("A")
    assert bars["split"][bars["split"] != 1].to_dict() == {pd.Timestamp(NEXT): 2.0}
    assert bars["dividend"][bars["dividend"] != 0].to_dict() == {
        pd.Timestamp("2018-10-17"): pytest.approx(stock.dividends["2018-10-17"], rel=1e-6)
    }
    truth = street_module.total_return(stock)
    np.testing.assert_allclose(street.adjusted(bars), truth[bars.index], rtol=1e-6)


def test_the_dividend_of_a_missing_row_goes_to_the_next_bar_and_never_to_the_one_before(
    street: Street,
) -> None:
    stock = opened(street, Missing(ACTED), payouts={ACTED: 0.03})
    live(street, "2018-10-08", "2018-10-15")
    paid = street.bars("A")["dividend"]
    assert paid[paid != 0].to_dict() == {pd.Timestamp(NEXT): pytest.approx(stock.dividends[ACTED], rel=1e-6)}


def test_an_action_is_not_doubled_when_its_row_is_lost_after_it_was_stored(street: Street) -> None:
    stock = opened(street, splits={ACTED: (2, 1)})
    lost = {"NULL": Null(ACTED, since="2018-10-12"), "MISSING": Missing(ACTED, since="2018-10-12")}
    street.opens(**{symbol: stock.with_quirks(quirk) for symbol, quirk in lost.items()})
    live(street, "2018-10-08", "2018-10-17")
    for symbol in lost:
        assert_true(street, symbol, "2018-10-17")
        assert street.bars(symbol)["split"].prod() == 2


def test_another_unit_from_a_provisional_bar_on_stays_out_and_the_truth_comes_in(street: Street) -> None:
    opened(street, Rescaled(100, first="2018-12-10", since="2018-12-11", until="2018-12-14"))
    live(street, "2018-12-07", "2018-12-13")
    assert_true(street, "A", "2018-12-10")
    live(street, "2018-12-14", "2018-12-17")
    assert_true(street, "A", "2018-12-17")


def test_a_hole_is_not_filled_in_another_unit(street: Street) -> None:
    opened(
        street,
        Null("2018-12-06", until="2018-12-11"),
        Rescaled(100, first="2018-12-06", last="2018-12-06", until="2018-12-13"),
    )
    live(street, "2018-12-07", "2018-12-12")
    assert pd.Timestamp("2018-12-06") not in street.bars("A").index
    live(street, "2018-12-13", "2018-12-14")
    assert_true(street, "A", "2018-12-14")


def test_another_unit_never_counts_however_long_it_stands(street: Street) -> None:
    opened(street, Rescaled(100, first="2018-12-04", since="2018-12-04", until="2018-12-18"))
    for session in street.sessions("2018-12-03", "2018-12-17"):
        held = "quarantine: unit fault" in rules(street.evening(session)).get("A", [])
        assert held == (session >= "2018-12-04")
    street.evening("2018-12-18")
    assert_true(street, "A", "2018-12-18")


def test_a_first_history_in_two_units_is_not_taken(street: Street) -> None:
    opened(street, Rescaled(100, first="2018-08-01", last="2018-08-03", until="2018-12-11"))
    assert rules(street.evening("2018-12-10")) == {"A": ["quarantine: unit fault"]}
    street.evening("2018-12-11")
    assert_true(street, "A", "2018-12-11")


@pytest.mark.proof
def test_a_reused_symbol_is_not_joined_to_the_company_that_is_gone(street: Street) -> None:
    stock = opened(street)
    sessions = street.days.sessions_between(pd.Timestamp("2018-10-10"), pd.Timestamp("2018-12-31"))
    gone = replace(stock, traded=stock.traded[:"2018-09-14"])
    other = make_stock(street.days, sessions, 77)
    street.server.stocks["A"] = gone.with_quirks(
        Broken("not found", since="2018-09-15", until="2018-10-10"), Replaced(other, since="2018-10-10")
    )
    live(street, "2018-09-13", "2018-10-19")
    bars = street.bars("A")
    assert bars.index[-1] == pd.Timestamp("2018-09-14")
    holds = street.run("2018-10-19").fetch_log.quarantined()
    assert [hold.rule for hold in holds.values()] == ["symbol reuse"]


def test_a_clock_set_back_leaves_the_past_as_it_was_known(street: Street) -> None:
    opened(street)
    live(street, "2018-12-03", "2018-12-06")
    before = street.bars("A", "2018-12-06")
    street.requests("A")
    street.evening("2018-12-03", hours=3)
    assert street.requests("A") == 0
    pd.testing.assert_frame_equal(street.bars("A", "2018-12-06"), before)


def test_five_evenings_on_which_nobody_is_known_are_an_outage_and_end_with_it(street: Street) -> None:
    opened(street)
    street.evening("2018-11-02")
    for symbol in ("A", *OTHERS):
        street.quirk(symbol, Broken("not found", since="2018-11-05", until="2018-11-10"))
    for session in street.sessions("2018-11-05", "2018-11-09"):
        with pytest.raises(SourceError):
            street.evening(session)
    assert street.evening("2018-11-12").covered == 5


@pytest.mark.proof
def test_a_release_lasts_over_the_next_audits(street: Street) -> None:
    opened(street, Unadjusted("2018-09-12"), splits={"2018-09-12": (2, 1)})
    assert rules(street.evening("2018-10-08")) == {"A": ["quarantine: split fault"]}
    log = street.run("2018-10-08").fetch_log
    log.record_quarantine("released", [*log.quarantined().values()], street.run("2018-10-08").now)
    live(street, "2018-10-09", "2018-11-09")
    assert log.quarantined() == {}
    assert log.events()["event"].tolist() == ["held", "released", "ended"]
