"""What the README tells a stranger to type must work, and what it promises must be there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import Config, UniverseConfig
from pipeline.report import FORECAST_COLUMNS

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("target", ["forecast", "test", "check", "lint", "bench", "clean"])
def test_make_knows_the_targets(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_pages_exists(page: Path) -> None:
    typed = set(re.findall(r"`(?:\.venv/bin/)?nextday ((?:(?:ledger|prices) )?[a-z]+)", page.read_text()))
    for command in typed:
        done = subprocess.run(
            [Path(sys.executable).with_name("nextday"), *command.split(), "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_short_configuration_is_valid() -> None:
    import tomllib

    block = re.search(r"```toml\n(.*?)```", README, re.S)
    assert block is not None
    made = Config.model_validate(tomllib.loads(block.group(1)))
    assert made.universe == UniverseConfig(
        name="mine", source="yahoo", symbols=("AAPL", "MSFT", "NVDA"), calendar="XNYS"
    )


def test_the_promised_columns_are_those_of_the_csv() -> None:
    promised = re.search(r"columns of the CSV: `([^`]+)`", README)
    assert promised is not None
    assert promised.group(1).split(", ") == FORECAST_COLUMNS


def test_nothing_in_the_repository_names_a_registry_or_this_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    words = re.compile(
        "index" + r"-url|find" + r"-links|pypi\.org|files\.pythonhosted|/" + r"work/main|/root" + "/"
    )
    named = [
        name
        for name in tracked.split()
        if (path := PROJECT / name).is_file()
        and name != "tests/test_readme.py"
        and words.search(path.read_text("utf-8"))
    ]
    assert named == []
