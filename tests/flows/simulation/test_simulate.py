"""The starts of a simulation one after the other: what each is given, what a failure does, and what is printed."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, date, datetime
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from flows.nightly import Evening
from flows.runtime.progress import PlainProgress, log_line, progress_shown_by
from flows.simulation import simulate as simulation
from flows.simulation.checks import Request, check_request
from flows.simulation.simulate import simulate
from flows.simulation.training import TrainingProcess
from pipeline.errors import ConfigError, NextdayError, SourceError
from pipeline.outputs import MAIN
from pipeline.storage.simulation_note import read_note
from tests.conftest import small_settings

STALE = SourceError("The prices are stale")


class Lines(PlainProgress):
    """Keeps what is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log_line(self, line: str) -> None:
        self.lines.append(line)


def make_evening(version: str) -> Evening:
    record = pd.DataFrame(
        {
            "target": "direction",
            "horizon": 1,
            "outcome": [1.0, 0.0, 1.0, None],
            "direction": ["up", "up", "none", "up"],
        }
    )
    model = {"version": version, "serves because": "first: the first champion"}
    as_of = pd.Timestamp("2018-11-30")
    report: Any = SimpleNamespace(record=record, outputs=[MAIN], model=model, as_of=as_of)
    return Evening(report, SimpleNamespace(), 2, 0)  # type: ignore[arg-type]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, datetime]]:
    """Return the flows called, each with its clock: evenings that succeed, and trainings."""
    called: list[tuple[str, datetime]] = []

    def note(flow: str, result: object) -> Callable[..., object]:
        def run(*, config: Path, home: Path, now: datetime) -> object:
            assert (config.name, home.name) == ("nextday.toml", "into")
            called.append((flow, now))
            log_line("a line of the flow")
            return result

        return run

    for flow, result in (("nightly", make_evening("m1")), ("maintenance", None)):
        monkeypatch.setitem(simulation._FLOWS, flow, note(flow, result))

    class Trainings:
        retrain = staticmethod(note("retrain", "it challenges"))

    monkeypatch.setattr(simulation, "TrainingProcess", lambda: nullcontext(Trainings()))
    return called


def request(folder: Path, last: date = date(2018, 12, 4)) -> Request:
    config = folder / "nextday.toml"
    config.write_text(small_settings())
    return check_request(config, folder / "data", folder / "into", date(2018, 11, 29), last)


def test_each_start_is_called_once_with_its_clock_and_only_news_are_shown(
    tmp_path: Path, asked: list[tuple[str, datetime]]
) -> None:
    shown = Lines()
    with progress_shown_by(shown):
        simulated = simulate(request(tmp_path))
    assert [(flow, f"{now:%d %H:%M}") for flow, now in asked] == [
        ("nightly", "29 23:30"),
        ("nightly", "30 23:30"),
        ("retrain", "01 13:00"),
        ("maintenance", "01 17:00"),
        ("nightly", "03 23:30"),
        ("nightly", "04 23:30"),
    ]
    assert simulated.evenings == 4
    assert shown.lines == [
        "2018-11-30: m1 serves: first: the first champion",
        "simulate: 1 of 4  2018-11-29  hit rate 50.0% of 2",
        "simulate: 2 of 4  2018-11-30  hit rate 50.0% of 2",
        "2018-12-01: it challenges",
        "simulate: 3 of 4  2018-12-03  hit rate 50.0% of 2",
        "simulate: 4 of 4  2018-12-04  hit rate 50.0% of 2",
    ]
    note = read_note(tmp_path / "into" / "simulation.json")
    assert note is not None
    assert note.done_at == asked[-1][1]
    asked.clear()
    simulate(request(tmp_path, date(2018, 12, 6)))
    assert [f"{now:%d}" for _, now in asked] == ["06"]


def test_an_evening_without_prices_fails_as_it_would_have_and_the_others_go_on(
    tmp_path: Path, asked: list[tuple[str, datetime]], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeds = simulation._FLOWS["nightly"]

    def fails_once(**arguments: Any) -> object:
        if arguments["now"].day == 30:
            raise STALE
        return succeeds(**arguments)

    monkeypatch.setitem(simulation._FLOWS, "nightly", fails_once)
    shown = Lines()
    with progress_shown_by(shown):
        simulated = simulate(request(tmp_path))
    assert simulated.failed == ["The prices are stale"]
    assert "2018-11-30: nightly failed: The prices are stale" in shown.lines
    assert [now.day for flow, now in asked if flow == "nightly"] == [29, 3, 4]


def test_where_no_evening_has_prices_that_is_the_error(
    tmp_path: Path, asked: list[tuple[str, datetime]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**arguments: Any) -> object:
        raise STALE

    monkeypatch.setitem(simulation._FLOWS, "nightly", fails)
    with pytest.raises(SourceError, match="stale"):
        simulate(request(tmp_path))


@pytest.mark.slow  # the process imports TensorFlow
def test_an_error_in_the_process_of_a_training_is_raised_here_whole(tmp_path: Path) -> None:
    config = tmp_path / "nextday.toml"
    config.write_text("[promotion]\nrule = 1\n")
    now = datetime(2018, 12, 1, 13, tzinfo=UTC)
    with TrainingProcess() as trainings:
        with pytest.raises(ConfigError) as refused:
            trainings.retrain(config=config, home=tmp_path / "w", now=now)
        assert "promotion" in str(refused.value)
        assert refused.value.where
        assert refused.value.fix
        # Another one has taken its place; who kills it is told what to look for.
        [process] = active_children()
        process.kill()
        with pytest.raises(NextdayError, match="The process of a training has ended without a result"):
            trainings.retrain(config=config, home=tmp_path / "w", now=now)
    assert active_children() == []
    assert not (tmp_path / "w").exists()
