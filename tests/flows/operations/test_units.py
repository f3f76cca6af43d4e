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

from flows.runtime.locations import PROJECT
from pipeline.ledger.ledger import Ledger
from tests.conftest import skip_unless
from tests.pipeline.ledger.test_sealed_ledger import issue
from tests.support.prefect_place import Place, started, wait_for

UNITS = PROJECT / "docs" / "systemd"
PAGE = (PROJECT / "docs" / "operations.md").read_text()


class Home:
    """A user's home folder, set up as docs/operations.md says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "nextday").mkdir()
        (folder / "nextday" / ".venv").symlink_to(sys.prefix)
        (folder / "nextday" / "docs").symlink_to(PROJECT / "docs")
        self.place = Place(folder)
        block = re.search(r"^## 2\. Settings$.*?```sh\n(.*?)```", PAGE, re.M | re.S)
        assert block is not None
        script = f"nano() {{ :; }}\n{block.group(1)}"
        subprocess.run(
            ["sh", "-ec", script], cwd=PROJECT, env={**os.environ, "HOME": str(folder)}, check=True
        )

    def text(self, unit: Path) -> str:
        """Return a unit with this home and this machine's free port filled in."""
        text = unit.read_text().replace("4200", str(self.place.port))
        return text.replace("%h", str(self.folder)).replace("%H", socket.gethostname())

    def command(self, unit: str, number: int = 0) -> list[str]:
        lines = re.findall(r"^ExecStart=(.*)$", self.text(UNITS / unit), re.M)
        return shlex.split(lines[number])

    @property
    def environment(self) -> dict[str, str]:
        lines = re.findall(r"^([A-Z_]+)=(.*)$", self.text(self.folder / ".config" / "nextday.env"), re.M)
        assert len(lines) == 6
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


@pytest.mark.slow
def test_the_backups_unit_copies_what_the_evenings_wrote_and_says_the_head(home: Home) -> None:
    data, nextday = (
        home.folder / "evenings" / "data",
        str(home.folder / "nextday" / ".venv" / "bin" / "nextday"),
    )
    ledger = Ledger(data / "ledger.sqlite")
    issue(ledger, 0, ["AAPL"])
    done = home.run(*home.command("nextday-backup.service"))
    assert done.returncode == 0, done.stderr
    assert f"head {ledger.head().hash}" in done.stdout
    (copy,) = (home.folder / "backups").glob("*.tar")
    data.rename(data.with_name("data.old"))
    back = home.run(nextday, "restore", str(copy.parent))
    assert back.returncode == 0, back.stderr
    assert Ledger(data / "ledger.sqlite", read_only=True).verify(expected_head=ledger.head().hash).ok


def test_every_command_in_a_new_shell_uses_the_settings_that_the_page_has_put_down(home: Home) -> None:
    shell = ["sh", "-c", ". ~/.profile && nextday ledger verify"]
    done = subprocess.run(
        shell,
        env={"HOME": str(home.folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(home.folder / "evenings" / "data" / "ledger.sqlite") in done.stderr


def test_the_alert_mails_what_the_failed_unit_has_said(home: Home) -> None:
    tools, mailed = home.folder / "bin", home.folder / "mailed"
    tools.mkdir()
    for name, script in (("journalctl", "echo FIX no ledger: $3"), ("mail", f'(echo "$@"; cat) > {mailed}')):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    unit = "nextday-doctor.service"
    command = [word.replace("%i", unit) for word in home.command("nextday-alert@.service")]
    environment = home.environment | {"NEXTDAY_ALERT_TO": "you", "PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(command, env=environment, check=True)
    subject, said = mailed.read_text().splitlines()
    assert subject == f"-s {unit} failed on {socket.gethostname()} you"
    assert said == f"FIX no ledger: {unit}"


@pytest.mark.proof
def test_the_units_command_lines_bring_up_a_server_a_worker_and_the_doctor(home: Home) -> None:
    logs, nextday = home.folder, str(home.folder / "nextday" / ".venv" / "bin" / "nextday")
    with started(home.command("nextday-server.service"), logs / "server.log", home.environment):
        wait_for(home.place.is_up, 180, "the server is up")
        done = home.run(nextday, "deploy")
        assert done.returncode == 0, done.stderr
        worker = home.command("nextday-worker.service")
        with started(worker, logs / "worker.log", home.environment):
            doctor = home.command("nextday-doctor.service")
            waits = f"OK   worker {socket.gethostname()} is running for the work pool"
            wait_for(lambda: waits in home.run(*doctor).stdout or None, 60, "the worker waits")
            said = home.run(*doctor)
            assert "OK   deployment nightly/nightly-sample: next run" in said.stdout
            # Nothing has been forecast in this home yet: the unit fails, and its alert is sent.
            assert "FIX  no ledger yet" in said.stdout
            assert said.returncode == 1
