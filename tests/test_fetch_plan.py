"""What is asked for tonight: no symbol twice, no history without a reason, and each one once in twenty sessions."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.fetch_log import Answer, FetchLog, Hold
from pipeline.fetch_plan import AUDIT_EVERY, OVERLAP, Asking, plan_asking
from pipeline.listing import find_listings
from pipeline.sessions import Calendar
from pipeline.store import PriceStore
from tests.conftest import prices_of, random_bars


class Desk:
    """A store of A and B, a log, and evenings on which something is planned."""

    def __init__(self, folder: Path, days: Calendar) -> None:
        self.days, self.sessions = days, days.sessions[:80]
        self.store, self.log = PriceStore(folder / "p" / "u"), FetchLog(folder / "p" / "u.fetches.sqlite")
        self.beginning = self.sessions[0]

    def evening(self, place: int, hours: float = 2) -> datetime:
        return (self.days.closes.iloc[place] + timedelta(hours=hours)).to_pydatetime()

    def keep(self, place: int, symbols: str = "AB", *, whole: bool = True) -> None:
        """Store the bars to session number `place`, that one provisional, and log that they were had."""
        rows = prices_of(
            {s: random_bars(self.sessions[: place + 1], k) for k, s in enumerate(symbols)}, self.days
        )
        status = rows["status"].where(rows["session"] < self.sessions[place], "provisional")
        self.store.append(rows.assign(status=status.astype("str")), run="r")
        said = [Answer(s, "ok", whole, self.beginning, self.evening(place)) for s in symbols]
        self.log.record(self.sessions[place], said)

    def plan(self, place: int, hours: float = 2, **instruments: str) -> dict[str, Asking]:
        return plan_asking(
            self.store,
            self.log,
            self.days,
            {"A": "A", "B": "B", **instruments},
            ["A", "B"],
            beginning=self.beginning,
            last=self.sessions[place],
            now=self.evening(place, hours),
        )

    def unknown(self, *places: int, symbol: str = "B") -> None:
        for place in places:
            self.log.record(
                self.sessions[place],
                [Answer(symbol, "not_found", False, self.beginning, self.evening(place))],
            )


@pytest.fixture
def desk(tmp_path: Path, xnys: Calendar) -> Desk:
    return Desk(tmp_path, xnys)


def no_audit(desk: Desk, place: int) -> int:
    """Return the first session from `place` on, on which neither A nor B has an audit."""
    desk.keep(place - 1)
    return next(p for p in range(place, place + 20) if not any(a.is_whole for a in desk.plan(p).values()))


def test_the_first_evening_asks_for_everything(desk: Desk) -> None:
    assert desk.plan(30) == dict.fromkeys("AB", Asking(desk.beginning, is_whole=True))


def test_a_later_evening_asks_from_fifteen_sessions_before_the_last_settled_bar(desk: Desk) -> None:
    place = no_audit(desk, 40)
    assert desk.plan(place)["A"] == Asking(desk.sessions[38 - OVERLAP], is_whole=False)


def test_who_has_tonights_bar_is_asked_again_only_when_it_can_have_settled(desk: Desk) -> None:
    desk.keep(40, "AB")
    assert desk.plan(40) == {}
    assert set(desk.plan(40, hours=19)) == {"A", "B"}


def test_only_the_symbols_that_lack_tonights_bar_are_asked_again(desk: Desk) -> None:
    desk.keep(39, "AB")
    desk.keep(40, "A", whole=False)
    assert set(desk.plan(40)) == {"B"}


def test_every_symbol_has_one_audit_in_twenty_sessions(desk: Desk) -> None:
    desk.keep(30)
    audits = [s for p in range(31, 31 + 2 * AUDIT_EVERY) for s, a in desk.plan(p).items() if a.is_whole]
    assert (audits.count("A"), audits.count("B")) == (2, 2)


def test_an_earlier_start_asks_for_the_whole_history_once(desk: Desk) -> None:
    desk.keep(40)
    desk.beginning = pd.Timestamp("1998-06-01")
    assert desk.plan(40)["A"] == Asking(desk.beginning, is_whole=True)
    desk.log.record(
        desk.sessions[40], [Answer(s, "ok", True, desk.beginning, desk.evening(40)) for s in "AB"]
    )
    assert desk.plan(40) == {}


def test_who_is_in_quarantine_is_asked_for_the_whole_history(desk: Desk) -> None:
    desk.keep(40)
    held = Hold("OLD", "A", desk.evening(40), "split fault", "")
    desk.log.put("held", [held], desk.evening(40))
    assert desk.plan(40) == {}
    assert desk.plan(40, A="OLD") == {"A": Asking(desk.beginning, is_whole=True)}
    desk.log.put("ended", [replace(held, is_released=True)], desk.evening(40))
    assert desk.plan(40, A="OLD") == {}


def test_a_store_of_before_the_log_is_compared_whole_once(desk: Desk) -> None:
    desk.keep(40)
    desk.log.path.unlink()
    assert desk.plan(40) == dict.fromkeys("AB", Asking(desk.beginning, is_whole=True))


def test_a_symbol_is_delisted_after_five_evenings_and_then_asked_for_on_its_audits_only(desk: Desk) -> None:
    desk.keep(30, "AB")
    desk.keep(60, "A")
    desk.unknown(31, 32, 33, 34)
    listed = find_listings(desk.store, desk.log, desk.days, ["A", "B"], desk.sessions[34])
    assert listed["B"].state == "trading"
    assert "B" in desk.plan(34)
    desk.unknown(35)
    listed = find_listings(desk.store, desk.log, desk.days, ["A", "B"], desk.sessions[35])
    assert (listed["B"].state, listed["B"].last) == ("delisted", desk.sessions[30])
    asked = [p for p in range(36, 36 + AUDIT_EVERY) if "B" in desk.plan(p)]
    assert len(asked) == 1


def test_absence_without_a_404_is_a_suspension_after_ten_sessions(desk: Desk) -> None:
    desk.keep(30, "AB")
    for place, state in ((39, "trading"), (40, "suspended")):
        found = find_listings(desk.store, desk.log, desk.days, ["B"], desk.sessions[place])["B"]
        assert (found.state, found.last) == (state, desk.sessions[30])


def test_a_symbol_that_never_had_a_bar_is_unknown(desk: Desk) -> None:
    desk.keep(30, "A")
    desk.unknown(*range(20, 31))
    assert find_listings(desk.store, desk.log, desk.days, ["B"], desk.sessions[30])["B"].state == "unknown"
