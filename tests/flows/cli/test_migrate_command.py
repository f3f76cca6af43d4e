"""`nextday ledger migrate`: the ledger and the fetch logs go to PostgreSQL and back, and into a backup."""

from pathlib import Path

import pytest

from pipeline.ledger.ledger import Ledger
from pipeline.prices.ingest.fetch_log import FetchLog
from pipeline.storage.files import hold_lock
from pipeline.storage.workspace import Workspace
from tests.pipeline.prices.ingest.test_fetch_log import ENTRY, NOW, log_line
from tests.support.command_line import HERE, CommandLine, seal_one, told

LIST = (*HERE, "prices", "quarantine", "list")


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """A workspace with a sealed forecast and a symbol in quarantine."""
    made = CommandLine(tmp_path, monkeypatch, capsys)
    seal_one()
    log = FetchLog(Workspace(Path("w")).fetch_log("sample"))
    log_line(log, "on")
    log.record_quarantine("held", [ENTRY], NOW)
    return made


def use(address: str) -> None:
    Path("nextday.toml").write_text(f'[universe]\nsymbols = ["A"]\n[storage]\nledger = "{address}"\n')


def test_everything_goes_there_and_back_and_into_a_backup(nextday: CommandLine, address: str) -> None:
    head = Ledger(Path("w/ledger.sqlite")).head().hash
    said = nextday(*HERE, "ledger", "migrate", "--to", address)
    assert said.code == 0, said.err
    assert f"verified, head {head}" in said.out
    assert "1 fetch log copied: sample" in said.out
    use(address)
    Path("w/ledger.sqlite").rename("old.sqlite")
    for name in ("", ".sha256"):
        Path(f"w/prices/sample.fetches.sqlite{name}").unlink()
    assert ENTRY.evidence in " ".join(nextday(*LIST).out.split())
    assert nextday(*HERE, "prices", "quarantine", "release", "A").code == 0
    assert head in nextday(*HERE, "ledger", "verify").out

    assert nextday(*HERE, "backup", "copy.tar").code == 0
    back = nextday("restore", "copy.tar", "--home", "back")
    assert back.code == 0, back.err
    assert [*FetchLog(Workspace(Path("back")).fetch_log("sample")).released()] == ["A"]
    assert Ledger(Path("back/ledger.sqlite"), read_only=True).head().hash == head

    assert nextday(*HERE, "ledger", "migrate", "--to", "sqlite").code == 0
    use("")
    assert Ledger(Path("w/ledger.sqlite"), read_only=True).head().hash == head
    assert [*FetchLog(Workspace(Path("w")).fetch_log("sample")).released()] == ["A"]


def test_a_target_with_a_ledger_gets_no_fetch_log_either(nextday: CommandLine, address: str) -> None:
    there = Workspace(Path("other"), address)
    assert nextday(*HERE, "ledger", "migrate", "--to", address).code == 0
    log = FetchLog(there.fetch_log("sample"))
    FetchLog(Workspace(Path("w")).fetch_log("sample")).record_quarantine("ended", [ENTRY], NOW)
    refused = nextday(*HERE, "ledger", "migrate", "--to", address)
    assert refused.code == 2
    assert "holds a ledger already" in "\n".join(told(refused))
    assert [*log.quarantined()] == ["A"]


def test_a_run_that_is_under_way_is_not_split_in_two(nextday: CommandLine, address: str) -> None:
    with hold_lock(Path("w/locks/sample.lock"), 0):
        refused = nextday(*HERE, "ledger", "migrate", "--to", address)
    assert refused.code == 1
    assert "another run" in (refused.out + refused.err).lower()
    assert FetchLog(Workspace(Path("other"), address).fetch_log("sample")).quarantined() == {}
