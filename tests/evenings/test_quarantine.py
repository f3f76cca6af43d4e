"""`nextday prices quarantine`: who is in it, why, and how a person lets somebody out."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.fetch_log import FetchLog, QuarantineEntry
from pipeline.prices.store import PriceStore
from tests.support import stored_week
from tests.support.command_line import HERE, CommandLine, contents
from tests.support.stored_week import SECOND, THIRD

pytestmark = pytest.mark.slow

days, store, nextday = stored_week.days, stored_week.store, stored_week.nextday

HOLD = QuarantineEntry(
    "A", "A", SECOND, "split fault", "10 of 16 closes from 2018-12-03 are now given 0.5 times as high"
)
QUARANTINE = (*HERE, "prices", "quarantine")


@pytest.fixture
def log(store: PriceStore, days: Calendar) -> FetchLog:
    return FetchLog(store.folder.with_name("u.fetches.sqlite"))


def test_an_empty_quarantine_is_said_to_be_empty_and_nothing_is_written(nextday: CommandLine) -> None:
    before = contents(Path())
    said = nextday(*QUARANTINE, "list")
    assert (said.code, said.out) == (0, "no symbol of the universe u is in quarantine\n")
    assert contents(Path()) == before


def test_the_evidence_is_listed_with_what_ends_it(nextday: CommandLine, log: FetchLog) -> None:
    log.record_quarantine("held", [HOLD], SECOND)
    said = " ".join(nextday(*QUARANTINE, "list").out.split())
    assert "A split fault, since 2018-12-14 22:00 UTC" in said
    assert HOLD.evidence in said
    assert "the quarantine ends when that has no contradiction left" in said
    assert "1 symbol of the universe u in quarantine" in said


def test_a_release_is_written_down_once_and_said(nextday: CommandLine, log: FetchLog) -> None:
    log.record_quarantine("held", [HOLD], SECOND)
    for _ in range(2):
        said = nextday(*QUARANTINE, "release", "A")
        assert said.code == 0
        assert "accepts it as it is" in said.out
    assert log.quarantined()["A"].is_released
    assert log.events()["event"].tolist() == ["held", "released"]
    assert "released: the next run accepts the source as it is" in " ".join(
        nextday(*QUARANTINE, "list").out.split()
    )


def test_all_lists_what_ever_happened(nextday: CommandLine, log: FetchLog) -> None:
    log.record_quarantine("held", [HOLD], SECOND)
    log.record_quarantine("ended", [HOLD], THIRD)
    said = nextday(*QUARANTINE, "list", "--all").out
    assert [line.split()[:4] for line in said.splitlines() if line.startswith("2018")] == [
        ["2018-12-14", "22:00", "A", "held"],
        ["2018-12-17", "22:00", "A", "ended"],
    ]
    assert "no symbol of the universe u is in quarantine" in said


def test_only_who_is_in_quarantine_can_be_released(nextday: CommandLine, log: FetchLog) -> None:
    log.record_quarantine("held", [HOLD], SECOND)
    said = nextday(*QUARANTINE, "release", "B")
    assert said.code == 2
    assert "'B' is not in quarantine" in said.err
    assert "in quarantine now: A" in said.err
    assert not log.quarantined()["A"].is_released


def test_the_check_names_who_is_held_and_needs_a_person(nextday: CommandLine, log: FetchLog) -> None:
    log.record_quarantine("held", [HOLD], SECOND)
    said = nextday(*HERE, "prices", "check")
    assert said.code == 1
    assert "FIX A 2018-12-13: quarantine: split fault" in " ".join(said.out.split())


def test_the_doctor_names_who_is_held(nextday: CommandLine, log: FetchLog) -> None:
    assert "no symbol is in quarantine" in nextday(*HERE, "doctor").out
    log.record_quarantine("held", [HOLD], SECOND)
    said = " ".join(nextday(*HERE, "doctor").out.split())
    assert "FIX 1 symbol in quarantine: A" in said
    assert "nextday prices quarantine list shows why" in said


def test_a_damaged_log_is_told_without_a_traceback(nextday: CommandLine, log: FetchLog) -> None:
    log.place.write_bytes(b"not a database, though it is longer than a header of one " * 9)
    said = nextday(*QUARANTINE, "list")
    assert said.code == 1
    assert "cannot be used" in said.err
    assert "fix" in said.err


def test_known_bars_of_somebody_held_stay_readable(
    nextday: CommandLine, log: FetchLog, store: PriceStore
) -> None:
    log.record_quarantine("held", [HOLD], SECOND)
    before = store.read()
    assert nextday(*HERE, "prices", "show", "A").code == 0
    pd.testing.assert_frame_equal(store.read(), before)
