"""When the flows of a simulation start: as a scheduler would have started them, less the evenings of holidays."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from flows.runtime.context import Run, open_run
from flows.simulation.timetable import Start, plan_starts
from pipeline.errors import ConfigError
from tests.conftest import small_settings


def opened(folder: Path, schedule: str = "") -> Run:
    config = folder / "nextday.toml"
    config.write_text(f"{small_settings()}[schedule]\n{schedule}")
    return open_run(config, folder / "data", datetime(2019, 6, 1, tzinfo=UTC))


def planned(run: Run, first: str, last: str) -> list[Start]:
    return plan_starts(run, pd.Timestamp(first), pd.Timestamp(last))


def test_a_week_with_thanksgiving_has_four_evenings_and_a_training(tmp_path: Path) -> None:
    starts = planned(opened(tmp_path), "2018-11-16", "2018-11-23")
    assert [(start.flow, f"{start.at:%a %d %H:%M}") for start in starts] == [
        ("nightly", "Fri 16 23:30"),
        ("retrain", "Sat 17 13:00"),
        ("nightly", "Mon 19 23:30"),
        ("nightly", "Tue 20 23:30"),
        ("nightly", "Wed 21 23:30"),  # Thursday's finds no new session
        ("nightly", "Fri 23 23:30"),
    ]


def test_starts_keep_to_the_exchange_s_clock_and_to_the_month(tmp_path: Path) -> None:
    starts = planned(opened(tmp_path), "2018-10-31", "2018-11-05")
    assert [(start.flow, f"{start.at:%d %H:%M}") for start in starts] == [
        ("nightly", "31 22:30"),
        ("maintenance", "01 16:00"),
        ("nightly", "01 22:30"),
        ("nightly", "02 22:30"),
        ("retrain", "03 12:00"),
        ("nightly", "05 23:30"),  # the clocks went back
    ]


def test_a_nightly_run_once_a_week_leaves_the_other_sessions_to_catching_up(tmp_path: Path) -> None:
    run = opened(tmp_path, 'nightly = "0 9 * * SAT"\nretrain = "0 0 30 2 *"\n')
    starts = planned(run, "2018-12-03", "2018-12-14")
    assert [f"{start.at:%a %d}" for start in starts] == ["Sat 08", "Sat 15"]
    with pytest.raises(ConfigError, match="No nightly run is planned"):
        planned(run, "2018-12-03", "2018-12-06")


def test_starts_several_times_an_evening_have_every_session_once(tmp_path: Path) -> None:
    run = opened(tmp_path, 'nightly = "*/10 17-20 * * *"\n')
    evenings = [s for s in planned(run, "2018-12-10", "2018-12-31") if s.flow == "nightly"]
    assert len(evenings) == len(
        run.calendar.sessions_between(pd.Timestamp("2018-12-10"), pd.Timestamp("2018-12-31"))
    )
    assert len({run.closed_by(start.at) for start in evenings}) == len(evenings)
