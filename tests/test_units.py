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

    @property
    def data(self) -> Path:
        return self.folder / "evenings" / "data"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    def write(self, *names: str) -> None:
        """Make files of the workspace; each holds its own name."""
        for name in names:
            (self.data / name).parent.mkdir(parents=True, exist_ok=True)
            (self.data / name).write_text(name)

    def backup(self, tar: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the backup's unit; lines of shell in `tar` come before the real one whenever it reads the workspace."""
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        script = f'#!/bin/sh\ncase "$*" in *-cf*)\n{tar or ":"}\n;; esac\nexec {shutil.which("tar")} "$@"\n'
        (tools / "tar").write_text(script)
        (tools / "tar").chmod(0o755)
        environment = self.environment | {"PATH": f"{tools}:{os.environ['PATH']}"}
        command = self.command("nextday-backup.service")
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

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
    ledger = Ledger(home.data / "ledger.sqlite")
    issue(ledger, 0, ["AAPL"])
    home.write("models/sample/a/member.keras", "reports/sample/2018-12-11/a b.csv", "workspace.json")
    home.write(
        "prices/sample/_delta_log/0.json", "prices/sample/part-0.parquet", "models/sample/champion.json"
    )
    home.write("cache/x", "locks/y.lock", "prefect/z", "models/sample/.new/member.keras")
    copies = []
    for _ in range(2):
        done = home.backup()
        assert done.returncode == 0, done.stderr
        copies.append(Path(done.stdout.strip()))
        # Two copies within one second would have one name.
        copies[-1] = copies[-1].rename(copies[-1].with_name(f"2000-01-0{len(copies)}T000000Z"))
    for copy in copies:
        assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()) == [
            "ledger.sqlite",
            "models/sample/a/member.keras",
            "models/sample/champion.json",
            "prices/sample/_delta_log/0.json",
            "prices/sample/part-0.parquet",
            "reports/sample/2018-12-11/a b.csv",
            "workspace.json",
        ]
        assert copy.stat().st_mode & 0o077 == 0
        kept = Ledger(copy / "ledger.sqlite", read_only=True)
        assert kept.verify(expected_head=ledger.head().hash).ok


def test_the_oldest_of_fifteen_backups_goes(home: Home) -> None:
    home.data.mkdir()
    for day in range(14):
        (home.backups / f"2020-01-{day + 10}T000000Z").mkdir(parents=True)
    assert home.backup().returncode == 0
    left = sorted(path.name for path in home.backups.iterdir())
    assert len(left) == 14
    assert left[0] == "2020-01-11T000000Z"


def test_a_copy_that_was_cut_off_never_gets_the_name_of_a_whole_one_and_the_next_backup_removes_it(
    home: Home,
) -> None:
    home.write("models/sample/a/member.keras")
    cut = home.backup(tar=f"{shutil.which('tar')} -cf - --files-from /dev/null; exit 2")
    assert cut.returncode != 0
    (half,) = home.backups.iterdir()
    assert half.name.endswith(".half")
    whole = home.backup()
    assert whole.returncode == 0, whole.stderr
    assert [*home.backups.iterdir()] == [Path(whole.stdout.strip())]


def test_a_second_backup_leaves_the_first_alone(home: Home) -> None:
    home.data.mkdir()
    again = shlex.join(home.command("nextday-backup.service"))
    done = home.backup(
        tar=f'[ -e "$HOME/again" ] || {{ : > "$HOME/again"; {again} > "$HOME/again" 2>&1; }} < /dev/null'
    )
    assert done.returncode == 0, done.stderr
    assert "another backup" in (home.folder / "again").read_text()


@pytest.mark.parametrize("moment", [1, 2])
def test_whatever_a_copy_points_at_is_in_the_copy(home: Home, moment: int) -> None:
    home.write("models/sample/champion.json", "models/sample/a/member.keras")
    home.write("prices/sample/_delta_log/0.json", "prices/sample/part-0.parquet")
    # While the files are read, after their names: a model is promoted, and prices are appended.
    promotes = f"""
    echo >> "$HOME/moments"
    if [ $(wc -l < "$HOME/moments") = {moment} ]; then
        cd {home.data}
        mkdir models/sample/b && echo b > models/sample/b/member.keras && echo b > models/sample/champion.json
        echo 1 > prices/sample/part-1.parquet && echo 1 > prices/sample/_delta_log/1.json
    fi"""
    done = home.backup(tar=promotes)
    assert done.returncode == 0, done.stderr
    copy = Path(done.stdout.strip())
    champion = (copy / "models/sample/champion.json").read_text()
    assert (champion == "b\n") == (moment == 1)
    assert champion != "b\n" or (copy / "models/sample/b/member.keras").exists()
    assert (
        not (copy / "prices/sample/_delta_log/1.json").exists()
        or (copy / "prices/sample/part-1.parquet").exists()
    )


def test_every_command_in_a_new_shell_uses_the_settings_that_the_page_has_put_down(home: Home) -> None:
    shell = ["sh", "-c", ". ~/.profile && nextday ledger verify"]
    done = subprocess.run(
        shell,
        env={"HOME": str(home.folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(home.data / "ledger.sqlite") in done.stderr


def test_the_alert_mails_what_the_failed_unit_has_said(home: Home) -> None:
    tools, mailed = home.folder / "bin", home.folder / "mailed"
    tools.mkdir()
    for name, script in (("journalctl", "echo MEND no ledger: $3"), ("mail", f'(echo "$@"; cat) > {mailed}')):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    unit = "nextday-doctor.service"
    command = [word.replace("%i", unit) for word in home.command("nextday-alert@.service")]
    environment = home.environment | {"NEXTDAY_ALERT_TO": "you", "PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(command, env=environment, check=True)
    subject, said = mailed.read_text().splitlines()
    assert subject == f"-s {unit} failed on {socket.gethostname()} you"
    assert said == f"MEND no ledger: {unit}"


@pytest.mark.proof
def test_the_units_command_lines_bring_up_a_server_a_worker_and_the_doctor(home: Home) -> None:
    logs, nextday = home.folder, str(home.folder / "nextday" / ".venv" / "bin" / "nextday")
    with started(home.command("nextday-server.service"), logs / "server.log", home.environment):
        wait_for(home.place.is_up, 180, "the server is up")
        done = home.run(nextday, "deploy")
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
