"""A workspace that is empty, damaged or incomplete: the command line names what, where and the fix."""

import json
from pathlib import Path

import pytest

from pipeline.config import digest
from pipeline.ledger.ledger import Ledger
from tests.support.command_line import HERE, CommandLine, contents, seal_one, seal_with_model, told

MONDAYS = (*HERE[:-1], "2018-12-10T22:00Z")


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    "command",
    [
        ["ledger", "show"],
        ["ledger", "verify"],
        ["ledger", "export", "--csv", "-"],
        ["report"],
        ["replay", "2018-12-10"],
    ],
)
def test_reading_makes_nothing_where_there_is_nothing(nextday: CommandLine, command: list[str]) -> None:
    said = nextday(*HERE, *command)
    assert said.code == 1
    assert told(said)[0] == "nextday: There is no ledger yet"
    assert not Path("w").exists()


def test_the_ledger_is_shown_checked_and_exported(nextday: CommandLine) -> None:
    seal_one()
    head = Ledger(Path("w/ledger.sqlite")).head().hash
    shown = nextday(*HERE, "ledger", "show")
    assert shown.code == 0
    assert shown.out.split()[-9:-2] == ["2018-12-10", "2018-12-11", "^GSPC", "late", "52.0%", "up", "open"]
    verified = nextday(*HERE, "ledger", "verify", "--head", head)
    assert (verified.code, verified.out.splitlines()[-2:]) == (0, ["the seal is intact", f"head {head}"])
    assert nextday(*HERE, "ledger", "verify", "--head", "0" * 64).code == 1
    exported = nextday(*HERE, "ledger", "export", "--csv", "-")
    assert exported.out.splitlines()[1].startswith("sample,^GSPC,2018-12-10,2018-12-11,1,")
    assert nextday(*HERE, "ledger", "export", "--csv", "x.csv").code == 0
    assert Path("x.csv").read_text() == exported.out


def test_a_universe_without_forecasts_says_so(nextday: CommandLine) -> None:
    seal_one()
    Path("nextday.toml").write_text("[universe]\nname = 'other'\n")
    named = f"{Path('w/ledger.sqlite').resolve()}, universe other"
    assert nextday(*HERE, "ledger", "show").out.splitlines() == [named, "no forecast of this universe yet"]


def test_the_ledger_that_is_verified_is_named(nextday: CommandLine) -> None:
    seal_one()
    named = f"{Path('w/ledger.sqlite').resolve()}, every universe"
    assert nextday(*HERE, "ledger", "verify").out.splitlines()[0] == named


def test_the_environment_names_the_configuration(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_one()
    Path("nextday.toml").rename("its.toml")
    Path("mine.toml").write_text("[universe]\nname = 'mine'\n")
    monkeypatch.setenv("NEXTDAY_CONFIG", "mine.toml")
    assert "universe mine" in nextday("--home", "w", "ledger", "show").out


@pytest.mark.parametrize("command", ["replay", "report"])
def test_a_session_may_be_named_by_its_target_too(nextday: CommandLine, command: str) -> None:
    seal_one()
    from_close, from_target = nextday(*HERE, command, "2018-12-10"), nextday(*HERE, command, "2018-12-11")
    assert "The ledger has no forecast" not in told(from_target)[0]
    assert from_target == from_close


@pytest.mark.parametrize("command", ["replay", "report"])
def test_a_day_that_is_no_session_is_reported_with_its_neighbours(nextday: CommandLine, command: str) -> None:
    seal_one()
    said = nextday(*HERE, command, "2018-12-09")
    assert said.code == 2
    assert told(said)[0] == "nextday: 2018-12-09 is not a session of XNYS"
    assert "2018-12-07 and 2018-12-10" in said.err


@pytest.mark.parametrize("command", ["replay", "report"])
def test_a_session_without_a_forecast_is_reported(nextday: CommandLine, command: str) -> None:
    seal_one()
    before = contents(Path("w"))
    said = nextday(*HERE, command, "2018-12-12")
    assert said.code in (1, 2)
    assert told(said)[0] == "nextday: The ledger has no forecast of 'sample' from 2018-12-12"
    assert contents(Path("w")) == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b"no ledger at all", "This file is not a ledger"),
        ("cut", "The ledger is damaged"),
        ("flip", "The ledger is damaged"),
    ],
)
@pytest.mark.parametrize("command", [["show"], ["verify"], ["export", "--csv", "x.csv"]])
def test_a_damaged_ledger_is_named(
    nextday: CommandLine, command: list[str], damage: "bytes | str", words: str
) -> None:
    seal_one()
    path = Path("w/ledger.sqlite")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[4096 * 3 :: 97] = bytes(byte ^ 0xFF for byte in flipped[4096 * 3 :: 97])
    broken = {"cut": whole[:3000], "flip": bytes(flipped)}.get(str(damage), damage)
    path.write_bytes(broken if isinstance(broken, bytes) else b"")
    said = nextday(*HERE, "ledger", *command)
    assert said.code == 1
    assert words in said.err
    assert "w/ledger.sqlite" in "\n".join(told(said))
    assert path.read_bytes() == broken
    assert not Path("x.csv").exists()


def test_an_error_of_the_models_is_reported_like_any_other(nextday: CommandLine) -> None:
    folder = seal_with_model()
    assert nextday(*HERE, "update").code == 0
    said = nextday(*HERE, "replay", "2018-12-10")
    assert said.code == 1
    assert "cannot read" in told(said)[0]
    assert str(folder / "model.json") in said.err


def test_a_damaged_model_is_never_used(nextday: CommandLine) -> None:
    folder = seal_with_model()
    (folder / "member-1.keras").write_bytes(b"junk")
    before = contents(Path("w/models"))
    for command in (["forecast"], ["replay", "2018-12-10"], ["report"]):
        said = nextday(*MONDAYS, *command)
        assert said.code == 1
        assert f"The files of the model {folder.name} are missing or damaged" in told(said)[0]
        assert str(folder) in said.err
    assert contents(Path("w/models")) == before
    assert len(Ledger(Path("w/ledger.sqlite")).record("sample")) == 1


@pytest.mark.parametrize("text", ["{", "{}", "null", "[{}]", None])
def test_a_damaged_pointer_is_no_missing_champion_and_is_written_again(
    nextday: CommandLine, text: str | None
) -> None:
    folder = seal_with_model()
    pointer = folder.parent / "champion.json"
    whole = json.loads(pointer.read_text())
    pointer.unlink() if text is None else pointer.write_text(text)
    said = nextday(*MONDAYS, "forecast")
    assert "it was written again from the list of models" in said.err
    assert f"{folder.name} was promoted last" in said.err
    assert json.loads(pointer.read_text()) == whole
    assert "training" not in said.err


@pytest.mark.slow
def test_a_damaged_list_of_models_is_told_before_a_training(nextday: CommandLine) -> None:
    path = seal_with_model().parent / "versions.json"
    path.write_text(path.read_text()[:-9])
    said = nextday(*MONDAYS, "retrain")
    assert said.code == 1
    assert str(path.resolve()) in said.err
    assert not Path("w/prices").exists()


@pytest.mark.parametrize(("text", "words"), [(None, "not in the workspace"), ("{}", "were changed")])
def test_former_settings_that_are_missing_are_named(
    nextday: CommandLine, text: str | None, words: str
) -> None:
    seal_with_model()
    former = next(Path("w/settings").iterdir())
    Path("nextday.toml").write_text("[prices]\nstart = 2018-11-02\n")
    former.unlink() if text is None else former.write_text(text)
    said = nextday(*HERE, "replay", "2018-12-10")
    assert said.code == 1
    assert words in told(said)[0]
    assert former.name in said.err


def test_the_settings_are_kept_once_their_prices_stand(nextday: CommandLine) -> None:
    assert nextday(*HERE, "update").code == 0
    (kept,) = Path("w/settings").iterdir()
    resolved = json.loads(kept.read_text())
    assert digest(resolved) == kept.stem
    assert resolved["members"] == [["^GSPC", None, None], ["^IXIC", None, None]]
    Path("nextday.toml").write_text('[universe]\nsymbols = ["ZZZ"]\nname = "other"\n')
    assert nextday(*HERE, "update").code == 2
    assert [*Path("w/settings").iterdir()] == [kept]


def test_a_damaged_store_is_named(nextday: CommandLine) -> None:
    assert nextday(*HERE, "update").code == 0
    part = next(Path("w/prices").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:500])
    before = contents(Path("w"))
    said = nextday(*HERE, "update")
    assert said.code == 1
    assert f"The prices are damaged, compared with their checksums: {part.parent.name}" in told(said)[-3]
    assert str(Path("w/prices/sample").resolve()) in said.err
    assert contents(Path("w")) == before
