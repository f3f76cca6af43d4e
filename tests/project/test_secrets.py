"""Real processes: no Python socket leaves this machine, nothing is unpickled, no secret is written.

The watch (tests/support/watched.py) sees Python's own audit events; what compiled code opens by itself it does not see.
"""

import json
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations.deploy import POOL
from flows.runtime.prefect_api import server_url
from pipeline.config import Config
from pipeline.errors import ConfigError
from tests.conftest import network_settings
from tests.support.command_line import CommandLine, seal_one
from tests.support.prefect_place import Place, started, wait_for
from tests.support.watched import SECRET, Trap, holding, told_by, watched_environment


def test_a_password_in_the_settings_is_refused_and_reaches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    seal_one()
    Path("nextday.toml").write_text(f"[prices]\nproxy = 'http://me:{SECRET}@host:1'\n")
    for command in (["update"], ["report"], ["ledger", "show"], ["doctor"]):
        said = nextday("--config", "nextday.toml", "--home", "w", *command)
        assert said.code != 0
        assert "HTTPS_PROXY" in said.out + said.err
        assert SECRET not in said.out + said.err
    assert not holding(SECRET, tmp_path / "w")


def test_what_the_settings_say_of_a_proxy_is_kept_nowhere() -> None:
    settings = Config.model_validate({"prices": {"proxy": "http://host.example:1", "ca_bundle": "own.pem"}})
    assert "host.example" not in json.dumps(settings.resolved())
    assert "own.pem" not in json.dumps(settings.resolved())


def test_a_password_in_the_servers_address_is_refused_and_not_repeated() -> None:
    address = f"http://me:{SECRET}@127.0.0.1:1/api"
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(ConfigError) as refused:
        server_url()
    assert SECRET not in str(refused.value)
    assert "PREFECT_API_AUTH_STRING" in str(refused.value)


class Evening:
    """A first evening and what came after it, every process watched; secrets and pickles lie in wait."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "w"
        (folder / "nextday.toml").write_text(network_settings())
        proxy = f"http://me:{SECRET}@127.0.0.1:9"
        self.environment = watched_environment(
            folder, HTTPS_PROXY=proxy, PREFECT_API_AUTH_STRING=f"me:{SECRET}"
        )
        self.said = ""

    def __call__(self, *arguments: str) -> None:
        place = ["--config", "nextday.toml", "--home", "w", "--now", "2018-12-20T22:00Z"]
        command = [str(Path(sys.executable).with_name("nextday")), *place, *arguments]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        self.said += done.stdout + done.stderr
        assert done.returncode == 0, self.said

    def set_traps(self) -> None:
        trap = pickle.dumps(Trap(self.folder / "sprung"))
        models = self.home / "models" / "sample"
        for place in (
            models,
            self.home / "cache",
            self.home / "prefect" / "storage",
            self.folder / "home" / ".cache",
        ):
            place.mkdir(parents=True, exist_ok=True)
            for name in ("champion.pkl", "model.pickle", "baseline.joblib", "cookies.db", "0" * 32):
                (place / name).write_bytes(trap)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    evening = Evening(tmp_path_factory.mktemp("evening"))
    evening("forecast")
    evening.set_traps()
    evening("replay", "2018-12-20")
    evening("report")
    return evening


@pytest.mark.proof
def test_no_file_is_unpickled_by_an_evening_a_replay_or_a_report(evening: Evening) -> None:
    assert not (evening.folder / "sprung").exists()
    assert [line for line in told_by(evening.folder) if line.startswith("pickle")] == []


def calls_outside(folder: Path) -> set[str]:
    """Return what Python bound, called or looked up beyond this machine; a socket that is a file stays on it."""
    told = {line for line in told_by(folder) if line.startswith("look-up") or "(" in line}
    return {line for line in told if "'127.0.0.1'" not in line and "('::1', 0" not in line}


@pytest.mark.proof
def test_an_evenings_python_sockets_stay_on_loopback(evening: Evening) -> None:
    told = told_by(evening.folder)
    assert calls_outside(evening.folder) == set()
    # Telemetry would go through the proxy.
    assert [line for line in told if line.endswith("9)") and "('127.0.0.1', 9)" in line] == []
    assert any(line.startswith("socket.bind ('127.0.0.1'") for line in told)  # Prefect's temporary server


@pytest.mark.proof
def test_no_secret_of_the_environment_reaches_a_file_or_the_terminal(evening: Evening) -> None:
    assert SECRET not in evening.said
    assert holding(SECRET, evening.home, evening.folder / "home") == []


@pytest.mark.proof
def test_mlflows_pages_show_the_runs_and_are_served_on_loopback_only(evening: Evening) -> None:
    before = {path.name for path in evening.folder.iterdir()}
    (evening.folder / "log").unlink()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [str(Path(sys.executable).with_name("nextday")), "--config", "nextday.toml", "--home", "w"]
    with started([*command, "ui", "--port", port], evening.folder / "ui.log", evening.environment) as pages:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"), 180, "the pages are there")
        api = f"http://127.0.0.1:{port}/api/2.0/mlflow"
        assert "nextday-sample" in httpx.post(f"{api}/experiments/search", json={"max_results": 10}).text
        assert '"champion"' in httpx.get(f"{api}/registered-models/search").text
    assert any(line.startswith("socket.bind") and port in line for line in told_by(evening.folder))
    assert calls_outside(evening.folder) == set()
    assert SECRET not in pages.log.read_text()
    # MLflow leaves nothing of its own.
    assert {path.name for path in evening.folder.iterdir()} == before | {"ui.log"}


def answers(url: str) -> bool | None:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).is_success or None
    return None


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with a password, as docs/security.md sets it up."""
    place = Place(tmp_path_factory.mktemp("guarded"), network_settings())
    place.environment |= {
        "PREFECT_SERVER_API_AUTH_STRING": f"nextday:{SECRET}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_API_AUTH_STRING": f"nextday:{SECRET}",
    }
    with place.server():
        yield place


@pytest.mark.proof
def test_a_server_with_a_password_refuses_whoever_has_none(guarded: Place) -> None:
    assert httpx.get(f"{guarded.url}/health").status_code == 200
    right = ("nextday", SECRET)
    asked = {
        who: httpx.get(f"{guarded.url}/version", auth=who).status_code
        for who in (None, ("nextday", "x"), right)
    }
    assert list(asked.values()) == [401, 401, 200]
    # What changes or lists something is refused even with the password, where a page elsewhere sends it.
    assert httpx.post(f"{guarded.url}/flows/filter", json={}, auth=right).status_code == 403


@pytest.mark.proof
def test_nextday_and_its_worker_work_with_a_server_that_has_a_password(guarded: Place) -> None:
    deployed = guarded.nextday("deploy")
    assert deployed.returncode == 0, deployed.stderr
    with guarded.worker("w1") as worker:
        wait_for(
            lambda: "worker w1 is running" in guarded.nextday("doctor").stdout or None,
            120,
            "the worker is seen",
        )
        run = ["nightly/nightly-sample", "--param", 'now="2018-12-20T22:00:00Z"', "--watch"]
        asked = subprocess.run(
            [sys.executable, "-m", "prefect", "deployment", "run", *run],
            env=guarded.environment, cwd=guarded.folder, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stdout + asked.stderr + worker.log.read_text()
    assert POOL in deployed.stdout
    said = deployed.stdout + deployed.stderr + asked.stdout + asked.stderr
    assert SECRET not in said
    assert holding(SECRET, guarded.folder) == []


@pytest.mark.proof
@pytest.mark.parametrize("password", ["", "nextday:wr0ng-marker"])
def test_without_the_right_password_the_way_out_is_told_and_not_the_password(
    guarded: Place, password: str
) -> None:
    right = guarded.environment
    guarded.environment = right | {"PREFECT_API_AUTH_STRING": password}
    try:
        refused = guarded.nextday("deploy")
    finally:
        guarded.environment = right
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert "PREFECT_API_AUTH_STRING" in refused.stderr
    assert "wr0ng-marker" not in refused.stdout + refused.stderr
