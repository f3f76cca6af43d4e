"""What a simulation needs before its first evening: all that is wrong is told at once, and nothing is written."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from flows.simulation.checks import Request, check_request
from pipeline.errors import InputError, NextdayError
from pipeline.storage.simulation_note import SimulationNote, read_note, write_note
from tests.conftest import small_settings
from tests.support.command_line import CommandLine, told

SPAN = (date(2018, 12, 3), date(2018, 12, 7))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "nextday.toml"
    path.write_text(small_settings())
    yield path
    assert sorted(each.name for each in tmp_path.iterdir() if each.name != "into") == ["nextday.toml"]


def check(settings: Path, first: date = SPAN[0], last: date = SPAN[1], into: str = "into") -> Request:
    return check_request(settings, settings.parent / "data", settings.parent / into, first, last)


def test_a_span_of_the_sample_can_be_simulated_in_a_new_folder(settings: Path) -> None:
    request = check(settings)
    assert (f"{request.first:%Y-%m-%d}", f"{request.last:%Y-%m-%d}") == ("2018-12-03", "2018-12-07")
    assert request.prices is None
    assert request.note is None
    assert not request.workspace.home.exists()


def test_all_that_is_wrong_is_told_at_once(settings: Path) -> None:
    (settings.parent / "into").mkdir()
    (settings.parent / "into" / "letter.txt").touch()
    with pytest.raises(InputError) as refused:
        check(settings, date(2018, 12, 8), date(2018, 12, 2))
    text = str(refused.value)
    assert "This folder is not empty, and holds no simulation" in text
    assert "2018-12-08 is not a session of XNYS" in text
    assert "2018-12-02 is not a session of XNYS" in text
    assert "The first session, 2018-12-08, is after the last one, 2018-12-02" in text
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (date(2018, 12, 3), date(2019, 1, 3), "The prices end on 2018-12-31, before 2019-01-03"),
        (
            date(2015, 6, 1),
            date(2015, 7, 1),
            "The first training needs 352 sessions of prices up to 2015-06-01",
        ),
    ],
)
def test_sessions_without_prices_or_history_are_refused(
    settings: Path, first: date, last: date, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check(settings, first, last)


def test_a_workspace_of_real_evenings_is_never_simulated_into(settings: Path) -> None:
    with pytest.raises(InputError, match="belongs to a workspace of real evenings"):
        check(settings, into="data")
    with pytest.raises(InputError, match="belongs to a workspace of real evenings"):
        check(settings, into="data/year")
    real = settings.parent / "into"
    real.mkdir()
    (real / "workspace.json").write_text('{"layout": 1, "made_by": "nextday"}')
    with pytest.raises(InputError, match="belongs to a workspace of real evenings"):
        check(settings)


def test_prices_of_a_remote_source_are_the_stored_ones(settings: Path) -> None:
    settings.write_text('[universe]\nname = "us"\nsource = "yahoo"\nsymbols = ["AAPL"]\n')
    with pytest.raises(InputError, match="There are no prices of the universe 'us'") as refused:
        check(settings)
    assert "nextday update" in refused.value.fix


def test_a_note_that_cannot_be_read_is_no_empty_folder(settings: Path) -> None:
    note = settings.parent / "into" / "simulation.json"
    write_note(note, SimulationNote("sample", "simulated-0", "2018-12-03"))
    assert read_note(note) == SimulationNote("sample", "simulated-0", "2018-12-03")
    note.write_text("{")
    with pytest.raises(NextdayError, match="The note of a simulation cannot be read"):
        check(settings)


def test_the_command_refuses_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    said = nextday("simulate", "--from", "2018-12-08", "--to", "2018-12-01", "--into", "year")
    assert said.code == 2
    assert len([line for line in told(said) if line.startswith("  fix:")]) >= 3
    assert nextday("simulate", "--from", "x", "--to", "2018-12-01", "--into", "year").code == 2
    assert (
        nextday(
            "--now", "2018-12-20", "simulate", "--from", "2018-12-03", "--to", "2018-12-07", "--into", "y"
        ).code
        == 2
    )
    assert not Path("year").exists()
