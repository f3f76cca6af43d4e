"""What else is on a desk: other projects' packages on PYTHONPATH, and no home folder."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

import nextday_command
from flows.cli import app
from flows.cli.arguments import options
from flows.cli.failures import find_cause
from flows.runtime import prefect_settings
from pipeline.errors import ConfigError
from tests.conftest import PROJECT


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start nextday's module as its console script does, with another folder before nextday's."""
    return subprocess.run(
        [sys.executable, "-c", "from nextday_command import main; main()", *arguments],
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "file", ["models/__init__.py", "models.py", "pipeline/__init__.py", "flows/__init__.py"]
)
def test_a_hidden_package_is_named_with_the_file_that_hides_it(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    done = run(tmp_path, "--version")
    assert done.returncode == 2
    package = Path(file).parts[0].removesuffix(".py")
    assert f"nextday: Python finds '{package}' of another project" in done.stderr
    assert f"where: {path}\n" in done.stderr
    assert "PYTHONPATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_package_hides_none(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["nextday", "nextday_command", "flows.cli.app"])
def test_python_m_is_the_same_command(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("nextday ")


@pytest.mark.parametrize("module", ["flows", "flows.cli", "pipeline", "models"])
def test_a_package_refuses_to_be_run(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "forecast"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"No module named {module}.__main__" in done.stderr


def test_a_shell_can_complete_commands() -> None:
    asked = {"_NEXTDAY_COMPLETE": "complete_bash", "COMP_WORDS": "nextday prices qu", "COMP_CWORD": "2"}
    code = "import sys; sys.argv[0] = 'nextday'; from nextday_command import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["quarantine"], "")


def test_no_package_is_hidden_here() -> None:
    assert nextday_command.find_hidden() == {}


def test_the_workspace_is_the_home_of_a_user_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "before")
    monkeypatch.setattr(Path, "home", refuse)
    monkeypatch.setattr(options, "config", None)
    monkeypatch.setattr(options, "home", tmp_path / "w")
    app._set_environment()
    assert os.environ["HOME"] == str(tmp_path / "w")


def test_an_error_inside_of_prefect_is_that_of_its_settings_where_they_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = ConfigError("Prefect cannot read its settings")

    def raised_in(file: str) -> Exception:
        try:
            exec(compile("int('x')", file, "exec"))
        except ValueError as error:
            return error
        raise AssertionError

    inside, outside = raised_in("/lib/prefect/context.py"), raised_in("/lib/other/context.py")
    assert find_cause(inside) is inside
    monkeypatch.setattr(prefect_settings, "require_settings", Mock(side_effect=refused))
    assert find_cause(inside) is refused
    assert find_cause(outside) is outside


def test_on_windows_the_command_says_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        nextday_command.main()
    assert ended.value.code == 2
    assert "fix:   use WSL 2" in capsys.readouterr().err
