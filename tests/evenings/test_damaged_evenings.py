"""Evenings on a workspace with damaged files: what is lost is told, and tonight's forecast is made where it can be."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import NextdayError
from pipeline.market.calendar import Calendar
from tests.evenings.test_evenings import Place
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]


@pytest.fixture
def place(first_evening: Path, tmp_path: Path, xnys: Calendar) -> Place:
    return Place(Path(shutil.copytree(first_evening, tmp_path / "copy")), xnys)


def evaluation_file(place: Place, name: str) -> Path:
    return next((place.home / "evaluations" / "sample").glob(f"*/{name}"))


def test_an_edited_score_is_not_shown_and_the_evening_goes_on(place: Place) -> None:
    scores = evaluation_file(place, "scores.csv")
    scores.write_text(scores.read_text().replace("0.5", "0.9"))
    verdict = evaluation_file(place, "verdict.json")
    verdict.write_bytes(verdict.read_bytes()[:20])
    trials = place.home / "trials" / "sample.jsonl"
    trials.write_bytes(trials.read_bytes().replace(b'"complete"', b'"comqlete"'))
    evening = place.run("2018-12-11")
    assert (evening.new_rows, evening.settled) == (2, 2)
    assert evening.report.verdict is None
    assert evening.report.scores.empty
    (note,) = [note for note in evening.report.notes if note.startswith("No score is shown, because ")]
    assert "scores.csv, verdict.json changed since the training" in note
    assert "The trials were changed or cut" in evening.report.tried
    assert "No score is shown, because" in evening.paths.html.read_text()


def test_the_evaluation_of_an_earlier_version_is_read_and_its_checksums_are_kept(place: Place) -> None:
    lists = [place.home / "models" / "sample" / name for name in ("versions.json", "champion.json")]
    for path in lists:
        found = json.loads(path.read_text())
        for entry in found if isinstance(found, list) else [found]:
            del entry["sha256"], entry["evaluation"]
        path.write_text(json.dumps(found))
    assert place.run("2018-12-11").report.verdict is not None
    for path in lists:
        found = json.loads(path.read_text())
        assert "scores.csv" in (found[-1] if isinstance(found, list) else found)["evaluation"]
    scores = evaluation_file(place, "scores.csv")
    scores.write_text(scores.read_text().replace("0.5", "0.9"))
    assert place.run("2018-12-12").report.verdict is None


def test_damaged_settings_of_tonight_are_written_again(place: Place) -> None:
    (path,) = (place.home / "settings").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    place.run("2018-12-11")
    assert path.read_bytes() == whole


def test_a_changed_price_stops_the_evening_before_anything_is_sealed(place: Place) -> None:
    part = max((place.home / "prices" / "sample").glob("year=2018/*.parquet"), key=lambda p: p.stat().st_size)
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 4
    part.write_bytes(content)
    with pytest.raises(NextdayError, match="The prices are damaged") as error:
        place.run("2018-12-11")
    assert part.name in str(error.value)
    assert len(place.record()) == 2


def test_prices_that_were_fetched_again_get_a_new_version_and_the_old_one_is_told(place: Place) -> None:
    before = place.record()["data_version"].max()
    shutil.move(place.home / "prices", place.home.with_name("lost"))
    evening = place.run("2018-12-11")
    assert evening.new_rows == 2
    assert place.record()["data_version"].max() > before
