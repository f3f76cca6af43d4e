"""Prefect's settings of another project: named where they cannot be read, without effect on a temporary server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.runtime import prefect_api
from flows.runtime.prefect_settings import list_sources
from flows.runtime.temporary_server import _isolate
from pipeline.errors import NextdayError
from tests.conftest import PROJECT

CHECK = """
from flows.runtime.prefect_settings import require_settings
from pipeline.errors import ConfigError
try:
    require_settings()
except ConfigError as error:
    print(error)
"""


def check(folder: Path, **variables: str) -> str:
    """Return what is said about the settings of a process in this folder; empty where they can be read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(PROJECT), "PREFECT_HOME": str(folder / "home")} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".env", "PREFECT_LOGGING_LEVEL=loud"),
        ("prefect.toml", "api = ["),
        ("home/profiles.toml", 'active = "x"\n[profiles.x]\nPREFECT_LOGGING_LEVEL = "loud"\n'),
    ],
)
def test_a_file_that_prefect_cannot_read_is_named(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / file).write_text(text)
    said = check(tmp_path)
    assert "Prefect cannot read its settings: " in said
    assert f"where: {tmp_path / file}\n" in said


@pytest.mark.slow
def test_a_variable_that_prefect_cannot_read_is_named_with_its_value(tmp_path: Path) -> None:
    said = check(tmp_path, PREFECT_TASKS_DEFAULT_RETRIES="often")
    assert "default_retries = 'often': " in said
    assert "where: PREFECT_TASKS_DEFAULT_RETRIES\n" in said
    assert check(tmp_path, PREFECT_LOGGING_LEVEL="INFO") == ""


def test_a_server_that_does_not_answer_is_named_with_the_file_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    url = "http://127.0.0.1:9/api"
    Path(".env").write_text(f"PREFECT_API_URL={url}\n")
    Path("pyproject.toml").write_text("[tool.ruff]\n")
    assert list_sources() == [str(tmp_path / ".env")]
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(NextdayError) as refused:
        prefect_api.server_url()
    assert refused.value.where == f"{url}, set in {tmp_path / '.env'}"


def test_a_temporary_server_has_a_database_and_a_password_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "PREFECT_HOME": "home",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://company/prefect",
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://company/prefect",
        "PREFECT_SERVER_API_AUTH_STRING": "me:password",
        "PREFECT_SERVER_API_BASE_PATH": "/company",
        "LANG": "C.UTF-8",
    }
    own = _isolate(given)
    assert own.pop("PYTHONPATH")
    assert own == {
        "LANG": "C.UTF-8",
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/home/prefect.db",
    }
