"""The shape of the code is a promise too: who may import whom, and how large a thing may grow."""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
import xml.etree.ElementTree
from functools import cache
from pathlib import Path
from statistics import median

import pytest

from tests.conftest import PROJECT

PACKAGES = ("pipeline", "models", "flows")
SOURCES = sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    return done.stdout


@pytest.mark.slow  # `make lint`, and so `make check`, looks at them itself
def test_imports_follow_the_contracts() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_pipeline_and_a_bare_models_load_no_engine() -> None:
    """One process imports them one after the other, and names each that brings an engine with it."""
    modules = (
        "pipeline",
        "models",
        "pipeline.forecasting.walk_forward",
        "pipeline.evaluation.scores",
        "pipeline.ledger.ledger",
        "pipeline.backup.backup",
        "flows.runtime.progress_bars",
    )
    code = f"""
import importlib, sys
engines = {{"tensorflow", "keras", "prefect", "mlflow"}}
for name in {modules}:
    importlib.import_module(name)
    for engine in sorted(engines & set(sys.modules)):
        print(name, "loads", engine)
    engines -= set(sys.modules)
"""
    assert run(code) == ""


def test_help_loads_nothing_heavy() -> None:
    loaded = run(
        "import sys, flows.cli; print(*[m for m in ('pandas', 'numpy', 'prefect', 'tensorflow') if m in sys.modules])"
    )
    assert loaded.strip() == ""


def _functions() -> list[tuple[str, int]]:
    found = []
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                text = ast.get_docstring(node, clean=False)
                size = (node.end_lineno or 0) - node.lineno + 1 - (text.count("\n") + 1 if text else 0)
                found.append((f"{path.name}:{node.name}", size))
    return found


def test_a_function_fits_in_a_glance() -> None:
    sizes = _functions()
    assert median(size for _, size in sizes) <= 6
    assert [name for name, size in sizes if size > 50] == []


def test_a_file_is_one_idea() -> None:
    assert [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 400] == []


def test_only_the_bootstrap_draws_sessions() -> None:
    """It holds the rule that too few sessions have no interval; a copy of its lines would not."""
    drawing = ("_draw_sessions", "StationaryBootstrap", "optimal_block_length")
    found = [path for path in SOURCES if any(name in path.read_text("utf-8") for name in drawing)]
    assert [path.relative_to(PROJECT).as_posix() for path in found] == ["pipeline/statistics/bootstrap.py"]
    by_hand = [path for path in SOURCES if "choose_block_length" in path.read_text("utf-8")]
    assert [path.name for path in by_hand] == ["data_snooping.py", "bootstrap.py"]


def test_no_public_name_lacks_a_docstring() -> None:
    bare = []
    for path in SOURCES:
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                bare += [] if ast.get_docstring(node) else [f"{path.name}:{node.name}"]
    assert bare == []


def test_the_lock_names_no_registry_and_pins_every_package() -> None:
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    assert lines
    assert [line for line in lines if "==" not in line or "://" in line or line.startswith("-")] == []


def _folders() -> list[Path]:
    return sorted({path.parent for path in SOURCES})


def test_every_folder_says_in_one_to_three_sentences_what_belongs_there() -> None:
    for folder in _folders():
        text = ast.get_docstring(parsed(folder / "__init__.py")) or ""
        assert 1 <= len(re.findall(r"[.?!](?:\s|$)", text)) <= 3, (folder, text)


def test_no_folder_has_more_than_fifteen_files() -> None:
    assert {folder.name: n for folder in _folders() if (n := len(list(folder.glob("*.py")))) > 15} == {}


@pytest.mark.parametrize("package", [*PACKAGES, "pipeline.prices"])
def test_no_folder_or_file_comes_without_a_place_in_the_layers(package: str) -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each.get("containers") == [package])
    folder = PROJECT / package.replace(".", "/")
    children = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/*.py")
    }
    assert (contract["type"], contract["exhaustive"]) == ("layers", True)
    assert set(re.findall(r"\w+", " ".join(contract["layers"]))) == children - {"__init__"}


def test_the_picture_of_the_architecture_is_up_to_date() -> None:
    drawing = runpy.run_path(str(PROJECT / "docs" / "draw_architecture.py"))
    made = drawing["draw"]()
    assert made == drawing["PICTURE"].read_text("utf-8"), "run `make architecture`"
    xml.etree.ElementTree.fromstring(made)


def test_the_architecture_page_names_every_folder() -> None:
    page = (PROJECT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| `([a-z_/]+)` \|", page, re.M))
    assert named == {folder.relative_to(PROJECT).as_posix() for folder in _folders()} - set(PACKAGES)
