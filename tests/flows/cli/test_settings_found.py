"""Which settings and which workspace a command takes, how it says so, and where the shared options may stand."""

import os
from pathlib import Path

import pytest

from flows.cli.arguments import put_options_first
from flows.runtime import locations
from flows.runtime.locations import PROJECT, default_config, default_home, install_command
from tests.support.command_line import CommandLine


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_the_nearest_settings_are_found_then_those_of_the_environment_then_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "desk" / "notes"
    inner.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere.toml"
    monkeypatch.chdir(inner)
    assert default_config() == PROJECT / "nextday.toml"
    monkeypatch.setenv("NEXTDAY_CONFIG", str(elsewhere))
    assert default_config() == elsewhere
    (inner / "nextday.toml").mkdir()  # a folder is no settings file
    assert default_config() == elsewhere
    (tmp_path / "desk" / "nextday.toml").write_text("")
    assert default_config() == tmp_path / "desk" / "nextday.toml"
    assert default_home(default_config()) == tmp_path / "desk" / "data"


def test_a_file_of_another_user_above_the_current_folder_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / "nextday.toml"
    found.write_text("")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert default_config() == found
    if os.getuid() == 0:
        os.chown(found, 54321, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert default_config() == PROJECT / "nextday.toml"
    monkeypatch.chdir(tmp_path)
    assert default_config() == found


def test_who_stands_in_the_checkout_and_names_settings_gets_those(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT / "docs")
    assert default_config() == PROJECT / "nextday.toml"
    monkeypatch.setenv("NEXTDAY_CONFIG", "/etc/nextday.toml")
    assert default_config() == Path("/etc/nextday.toml")


def test_an_installed_nextday_has_no_settings_of_its_own_and_says_how_to_get_some(
    nextday: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install_command("dask").startswith("in the checkout: ")
    monkeypatch.setattr(locations, "SHIPPED", tmp_path / "flows" / "shipped")
    assert install_command("dask").startswith("pip install 'nextday[dask]'")
    Path("nextday.toml").unlink()
    assert default_config() == tmp_path / "nextday.toml"
    said = nextday("update")
    assert said.code == 2
    assert "`nextday init`" in said.err
    assert not (tmp_path / "data").exists()


def test_the_first_line_says_which_settings_and_which_workspace(nextday: CommandLine, tmp_path: Path) -> None:
    here = nextday("update", "--now", "2018-12-20T22:00Z")
    assert here.code == 0
    assert here.err.splitlines()[0] == f"Settings {tmp_path / 'nextday.toml'}, workspace {tmp_path / 'data'}"
    assert (tmp_path / "data").is_dir()
    there = nextday("prices", "show", "^GSPC", "--home=nowhere", "--config", "other.toml")
    assert there.code == 2
    assert (
        there.err.splitlines()[0] == f"Settings {tmp_path / 'other.toml'}, workspace {tmp_path / 'nowhere'}"
    )
    assert "Settings" not in nextday("update", "--help").err


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["forecast", "--home", "w"], ["--home", "w", "forecast"]),
        (
            ["--debug", "prices", "show", "A", "--now=2020-01-02"],
            ["--debug", "--now=2020-01-02", "prices", "show", "A"],
        ),
        (
            ["report", "--config", "a b.toml", "--home", "w"],
            ["--config", "a b.toml", "--home", "w", "report"],
        ),
        (["prices", "show", "--", "--home", "w"], ["prices", "show", "--", "--home", "w"]),
        (["forecast", "--home"], ["--home"]),
        ([], []),
    ],
)
def test_shared_options_may_stand_anywhere(typed: list[str], read: list[str]) -> None:
    assert put_options_first(typed) == read


def test_an_option_without_its_value_is_refused(nextday: CommandLine) -> None:
    said = nextday("update", "--home")
    assert said.code == 2
    assert "requires an argument" in said.err
