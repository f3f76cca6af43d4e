"""The files of docs/systemd, as the operations page lets people copy them."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.run import PROJECT
from pipeline.ledger import Ledger
from tests.conftest import skip_unless
from tests.prefect_place import Place, started, wait_for
from tests.test_ledger_seal import issue

UNITS = PROJECT / "docs" / "systemd"
PAGE = (PROJECT / "docs" / "operations.md").read_text()


class Home:
    """A user's home folder, set up as docs/operations.md says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "nextday").mkdir()
        (folder / "nextday" / ".venv").symlink_to(sys.prefix)
        (folder / "nextday" / "docs").symlink_to(PROJECT / "docs")
        (folder / "evenings").mkdir()
        shutil.copy(PROJECT / "nextday.toml", folder / "evenings")
        self.place = Place(folder)

    def text(self, unit: Path) -> str:
        """Return a unit with this home and this machine's free port filled in."""
        text = unit.read_text().replace("4200", str(self.place.port))
        return text.replace("%h", str(self.folder)).replace("%H", socket.gethostname())

    def command(self, unit: str, number: int = 0) -> list[str]:
        lines = re.findall(r"^ExecStart=(.*)$", self.text(UNITS / unit), re.M)
        return shlex.split(lines[number])

    @property
    def environment(self) -> dict[str, str]:
        lines = re.findall(r"^([A-Z_]+)=(.*)$", self.text(UNITS / "nextday.env"), re.M)
        assert len(lines) == 4
        return {"HOME": str(self.folder), "PATH": os.environ["PATH"], **dict(lines)}

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_systemd_takes_every_unit(home: Home, tmp_path: Path) -> None:
    skip_unless(bool(shutil.which("systemd-analyze")), "the units of docs/systemd: systemd-analyze")
    copies = tmp_path / "units"
    copies.mkdir()
    for unit in [*UNITS.glob("*.service"), *UNITS.glob("*.timer")]:
        (copies / unit.name).write_text(home.text(unit))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *sorted(copies.iterdir())],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_names_every_file(home: Home) -> None:
    assert [path.name for path in UNITS.iterdir() if path.name not in PAGE] == []


def test_a_backup_holds_everything_but_what_can_be_made_again_and_its_ledger_verifies(home: Home) -> None:
    skip_unless(bool(shutil.which("sqlite3")), "docs/systemd/nextday-backup: sqlite3")
    data = home.folder / "evenings" / "data"
    ledger = Ledger(data / "ledger.sqlite")
    issue(ledger, 0, ["AAPL"])
    for name in (
        "models/sample/a/member.keras",
        "reports/sample/2018-12-11/a b.csv",
        "cache/x",
        "locks/y.lock",
    ):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    copies = []
    for _ in range(2):
        done = home.run(*home.command("nextday-backup.service"))
        assert done.returncode == 0, done.stderr
        copies.append(Path(done.stdout.strip()))
        # Two copies within one second would have one name.
        copies[-1] = copies[-1].rename(copies[-1].with_name(f"2000-01-0{len(copies)}T000000Z"))
    for copy in copies:
        assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()) == [
            "ledger.sqlite",
            "models/sample/a/member.keras",
            "reports/sample/2018-12-11/a b.csv",
        ]
        kept = Ledger(copy / "ledger.sqlite", read_only=True)
        assert kept.verify(expected_head=ledger.head().hash).ok


def test_the_oldest_of_fifteen_backups_goes(home: Home) -> None:
    skip_unless(bool(shutil.which("sqlite3")), "docs/systemd/nextday-backup: sqlite3")
    (home.folder / "evenings" / "data").mkdir()
    backups = home.folder / "backups"
    for day in range(14):
        (backups / f"2020-01-{day + 10}T000000Z").mkdir(parents=True)
    assert home.run(*home.command("nextday-backup.service")).returncode == 0
    left = sorted(path.name for path in backups.iterdir())
    assert len(left) == 14
    assert left[0] == "2020-01-11T000000Z"


def test_the_alert_mails_what_the_failed_unit_has_said(home: Home) -> None:
    tools, mailed = home.folder / "bin", home.folder / "mailed"
    tools.mkdir()
    for name, script in (("journalctl", "echo MEND no ledger: $3"), ("mail", f'(echo "$@"; cat) > {mailed}')):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    unit = "nextday-doctor.service"
    command = [
        word.replace("%i", unit).replace("%u", "nextday") for word in home.command("nextday-alert@.service")
    ]
    subprocess.run(command, env={"PATH": f"{tools}:{os.environ['PATH']}"}, check=True)
    subject, said = mailed.read_text().splitlines()
    assert subject == f"-s {unit} failed on {socket.gethostname()} nextday"
    assert said == f"MEND no ledger: {unit}"


@pytest.mark.proof
def test_the_units_command_lines_bring_up_a_server_a_worker_and_the_doctor(home: Home) -> None:
    logs, nextday = home.folder, str(home.folder / "nextday" / ".venv" / "bin" / "nextday")
    config = str(home.folder / "evenings" / "nextday.toml")
    with started(home.command("nextday-server.service"), logs / "server.log", home.environment):
        wait_for(home.place.is_up, 180, "the server is up")
        done = home.run(nextday, "--config", config, "deploy")
        assert done.returncode == 0, done.stderr
        worker = home.command("nextday-worker.service")
        with started(worker, logs / "worker.log", home.environment) as running:
            doctor = home.command("nextday-doctor.service")
            waits = f"ok    worker {socket.gethostname()} waits at the work pool"
            wait_for(lambda: waits in home.run(*doctor).stdout or None, 60, "the worker waits")
            said = home.run(*doctor)
            assert "ok    deployment nightly/nightly-sample: next run" in said.stdout
            # Nothing has been forecast in this home yet: the unit fails, and its alert is sent.
            assert "MEND  no ledger yet" in said.stdout
            assert said.returncode == 1
            running.process.terminate()
            running.process.wait(60)
