"""The paths, modules, links and examples that README and docs name exist."""

import importlib
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType, TracebackType

import numpy as np
import pytest

from tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "data" / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
ROOTS = r"(?:pipeline|flows|models|tests|docs|data/universes)"
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())


@pages
def test_every_path_on_a_page_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(rf"(?<![\w/.-]){ROOTS}/[\w/.@-]*\w", text)) | set(
        re.findall(rf"`({ROOTS}/[^`*< ]*)`", text)
    )
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []


def test_every_page_that_code_and_settings_name_exists() -> None:
    files = [
        path for root in ("pipeline", "flows", "models", "tests") for path in (PROJECT / root).rglob("*.py")
    ]
    named = {
        (page, path.name)
        for path in [*files, PROJECT / "nextday.toml"]
        for page in re.findall(r"docs/\w+\.md", path.read_text("utf-8"))
    }
    assert named
    assert {(page, name) for page, name in named if not (PROJECT / page).exists()} == set()


@pytest.mark.slow
@pages
def test_every_dotted_name_on_a_page_can_be_imported(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`((?:pipeline|flows|models|tests)(?:\.\w+)+)`", text))
    for module, names in re.findall(
        r"^from ((?:pipeline|flows|models|tests)[\w.]*) import ([\w, ]+)$", text, re.M
    ):
        named |= {f"{module}.{name.strip()}" for name in names.split(",")}
    for name in named:
        assert resolve(name), name


def resolve(name: str) -> bool:
    """Return whether a dotted name is a module, or something inside one."""
    for cut in range(len(parts := name.split(".")), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the page's headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pages
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        assert anchor in anchors((page.parent / target).resolve() if target else page), (target, anchor)


class Client:
    """A stand-in for Dask's client: threads of this process."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def get_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(2)


@pytest.mark.slow
def test_the_example_of_the_training_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "training.md").read_text(), re.S)
    dask = ModuleType("distributed")
    dask.Client = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "distributed", dask)
    generator = np.random.default_rng(1)
    names = {
        "x": generator.normal(size=(3, 160, 16)).astype("float32"),
        "mask": np.ones((3, 160), bool),
        "y": generator.integers(0, 2, (3, 160, 1)).astype("float32"),
        "train": range(20, 90),
        "stop": range(91, 120),
        "calibrate": range(121, 159),
    }
    small = block.replace("members=20", "members=2").replace(
        "/on/a/disk/that/all/machines/see", str(tmp_path)
    )
    assert small.count(str(tmp_path)) == small.count("members=2,") == 1
    exec(small, names)
    forecast = names["fitted"].predict(names["x"], names["mask"])  # type: ignore[attr-defined]
    assert np.nanmax(forecast.p_up) < 1
