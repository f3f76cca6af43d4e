"""Prefect's temporary server starts before the imports, and only where a command may need it."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import app, startup
from flows.runtime import temporary_server
from tests.support.command_line import CommandLine, seal_with_model, told

ONE = '[universe]\nsymbols = ["^GSPC"]\n[prices]\nstart = 2018-11-01\n'
TWO = "[prices]\nstart = 2018-11-01\n"
SEALED = ("--config", "nextday.toml", "--home", "w", "--now", "2018-12-10T22:00Z")


class Server:
    """Notes what a command does with its server."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def use(self) -> None:
        self.calls.append("use")

    def stop(self) -> None:
        self.calls.append("stop")


@pytest.fixture
def prefect_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "prefect"
    folder.mkdir()
    monkeypatch.setenv("PREFECT_HOME", str(folder))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(temporary_server, "TemporaryServer", Server)
    return folder


def test_it_starts_where_nothing_else_is_configured(prefect_folder: Path) -> None:
    (prefect_folder / "profiles.toml").write_text('active = "ephemeral"\n[profiles.ephemeral]\n')
    assert isinstance(startup.start_server_early(), Server)


def test_another_server_may_be_configured(prefect_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prefect_folder / "profiles.toml").write_text('[profiles.x]\nPREFECT_API_URL = "http://10.0.0.1/api"\n')
    assert startup.start_server_early() is None
    (prefect_folder / "profiles.toml").unlink()
    monkeypatch.setenv("PREFECT_API_URL", "http://10.0.0.1/api")
    assert startup.start_server_early() is None


def test_its_folder_must_not_depend_on_the_settings(
    tmp_path: Path, prefect_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert startup.start_server_early() is None
    (tmp_path / ".prefect").mkdir()
    assert isinstance(startup.start_server_early(), Server)


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "calls"), [(ONE, ["stop"]), (TWO, ["use"])])
def test_a_forecast_waits_for_it_unless_everything_is_sealed(
    settings: str,
    calls: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nextday, server = CommandLine(tmp_path, monkeypatch, capsys), Server()
    monkeypatch.setattr(app, "_prepare_flow_and_server", lambda: (app._prepare_flow(), server))
    Path("nextday.toml").write_text(settings)
    seal_with_model()
    told(
        nextday(*SEALED, "forecast")
    )  # the sealed row's model cannot be read: the evening goes on until it is
    assert server.calls == calls


@pytest.mark.slow
def test_a_command_that_fails_does_not_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    code = (
        "import os, sys, time\n"
        "from flows.cli import app, startup\n"
        "servers, start = [], app.start_server_early\n"
        "app.start_server_early = lambda: servers.append(start()) or servers[0]\n"
        f"sys.argv = ['nextday', '--config', {str(tmp_path / 'none.toml')!r}, 'forecast']\n"
        "try:\n"
        "    app.main()\n"
        "except SystemExit as end:\n"
        "    begun = time.monotonic()\n"
        "    servers[0].stop()\n"
        "    print(end.code, servers[0]._process.returncode, time.monotonic() - begun < 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")},
        cwd=Path(__file__).parents[3],
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert "There is no configuration file" in done.stderr
    assert done.stdout == "2 0 True\n"
    assert not list((tmp_path / "prefect").iterdir())  # it had not opened the database
