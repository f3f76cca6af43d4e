"""What the README tells a stranger to type must work, and what it promises must be there."""

import re
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flows.cli.app import app
from pipeline.config import Config, UniverseConfig
from pipeline.report.files import FORECAST_COLUMNS
from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize(
    "target",
    [
        "forecast",
        "test",
        "check",
        "lint",
        "bench",
        "mutants",
        "yahoo",
        "architecture",
        "wheel",
        "docs",
        "clean",
    ],
)
def test_make_knows_the_targets(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def commands() -> set[str]:
    """Return all commands and groups of commands, as they are typed after `nextday`; each has shown its help."""
    named: set[str] = set()

    def walk(command: Any, context: Any, words: tuple[str, ...]) -> None:
        command.get_help(context)
        named.add(" ".join(words))
        for name, child in getattr(command, "commands", {}).items():
            walk(child, child.context_class(child, context, name), (*words, name))

    root = get_command(app)
    walk(root, root.context_class(root, info_name="nextday"), ())
    return named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_pages_exists(page: Path, commands: set[str]) -> None:
    command = r"(?:(?:ledger|prices|models|source) )?[a-z]+(?:-[a-z]+)*"
    typed = set(re.findall(rf"`(?:\.venv/bin/)?nextday ({command})", page.read_text()))
    assert typed <= commands


def test_help_is_shown_as_a_process_of_its_own() -> None:
    nextday = [Path(sys.executable).with_name("nextday"), "ledger", "verify", "--help"]
    done = subprocess.run(nextday, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nextday ledger verify" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def settings_of(page: str) -> Config:
    block = re.search(r"```toml\n(.*?)```", page, re.S)
    assert block is not None
    return Config.model_validate(tomllib.loads(block.group(1)))


def test_the_short_configuration_is_valid() -> None:
    made = settings_of(README)
    assert made.universe == UniverseConfig(
        name="mine", source="yahoo", symbols=("AAPL", "MSFT", "NVDA"), calendar="XNYS"
    )


def test_the_configuration_of_the_87_stocks_is_valid_and_what_was_chosen() -> None:
    made = settings_of((PROJECT / "docs" / "evaluation.md").read_text())
    assert (made.features.set, made.model.kind, made.model.lookback) == ("alstm11", "lstm", 10)
    assert made.labels.dead_zone == (-0.005, 0.0055)
    assert made.evaluation.test_end == date(2015, 12, 31)


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
        and name != "tests/project/test_readme.py"
        and words.search(path.read_text("utf-8"))
    ]
    assert named == []
