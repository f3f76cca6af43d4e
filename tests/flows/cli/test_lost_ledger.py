"""A ledger that was lost: every command that reads or writes it says so, and one command goes on."""

from pathlib import Path

import pytest

from pipeline.ledger.ledger import Ledger
from tests.support.command_line import HERE, CommandLine, contents, seal_one, told


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("loss", ["removed", "emptied"])
def test_every_command_tells_a_lost_ledger_and_changes_nothing(nextday: CommandLine, loss: str) -> None:
    seal_one()
    path = Path("w/ledger.sqlite")
    path.unlink() if loss == "removed" else path.write_bytes(b"")
    before = contents(Path("w"))
    for command in (
        ["forecast"],
        ["retrain"],
        ["update"],
        ["settle"],
        ["maintain"],
        ["report"],
        ["replay", "2018-12-10"],
        ["ledger", "show"],
        ["ledger", "verify"],
        ["ledger", "export", "--csv", "-"],
        ["backup", "copies"],
    ):
        said = nextday(*HERE, *command)
        assert said.code == 1, command
        assert "The ledger is gone: forecast batches up to 1" in said.err, command
    assert contents(Path("w")) == before
    assert not [*Path("copies").glob("*.tar")]
    checked = nextday(*HERE, "doctor")
    assert checked.code == 1
    assert "The ledger is gone" in checked.out
    assert "nextday ledger begin-again" in checked.out


def test_a_loss_is_accepted_in_so_many_words_and_repeated_ever_after(nextday: CommandLine) -> None:
    seal_one()
    Path("w/ledger.sqlite").unlink()
    asked = nextday(*HERE, "ledger", "begin-again")
    assert asked.code == 2
    command = '--accept "lost: 1 forecast batch"'
    assert command in asked.err
    assert nextday(*HERE, "ledger", "begin-again", "--accept", "yes").code == 2
    assert not Path("w/ledger.sqlite").exists()
    done = nextday(*HERE, "ledger", "begin-again", "--accept", "lost: 1 forecast batch")
    assert done.code == 0, done.err
    seal_one()
    verified = nextday(*HERE, "ledger", "verify")
    assert verified.code == 0
    assert "the ledger went on after a loss: lost: 1 forecast batch." in verified.out
    assert Ledger(Path("w/ledger.sqlite")).verify().forecasts == 1
    again = nextday(*HERE, "ledger", "begin-again")
    assert (again.code, "nothing is lost" in again.out) == (0, True)


def test_a_backup_brings_a_lost_ledger_back(nextday: CommandLine) -> None:
    seal_one()
    assert nextday("--home", "w", "backup", "copies").code == 0
    Path("w/ledger.sqlite").unlink()
    assert "restore a backup (nextday restore)" in told(nextday(*HERE, "ledger", "show"))[-1]
    Path("w").rename("broken")
    assert nextday("--home", "w", "restore", "copies").code == 0
    assert nextday(*HERE, "ledger", "verify").code == 0
    assert nextday(*HERE, "ledger", "show").code == 0
