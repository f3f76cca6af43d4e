"""Which models there are and which one serves."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import InputError, NextdayError
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import RegisteredModel, Registry

EVENING = datetime(2018, 12, 31, 22, tzinfo=UTC)
TAGS = {"trained_through": "2018-12-31", "data_version": "7"}


def digest(folder: Path) -> str:
    """Stand in for the models' own digest: 16 hex digits over names and bytes."""
    content = [(path.name, path.read_bytes().hex()) for path in sorted(folder.iterdir())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def save_model(home: Path, content: str, universe: str = "sample") -> str:
    draft = home / "draft"
    draft.mkdir(parents=True)
    (draft / "model.json").write_text(content)
    version = digest(draft)
    folder = Workspace(home).model(universe, version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft.rename(folder)
    return version


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def registry(home: Path) -> Registry:
    return Registry(home, digest)


def test_the_promoted_model_serves_with_all_that_is_known_of_it(registry: Registry, home: Path) -> None:
    version = save_model(home, "a")
    registry.add("sample", version, "run-1", 3, TAGS)
    assert registry.champion("sample") is None
    tokyo = timezone(timedelta(hours=9))
    assert registry.promote("sample", version, EVENING.astimezone(tokyo)) is None
    assert registry.champion("sample") == RegisteredModel(
        model_version=version,
        directory=Workspace(home).model("sample", version),
        trained_through=pd.Timestamp("2018-12-31"),
        promoted_at=EVENING,
        run_id="run-1",
        number=3,
        tags=TAGS,
    )


def test_promoting_names_the_model_that_served_before_and_the_champion_keeps_its_hour(
    registry: Registry, home: Path
) -> None:
    first, second = save_model(home, "a"), save_model(home, "b")
    for number, version in enumerate([first, second], start=1):
        registry.add("sample", version, f"run-{number}", number, TAGS)
    registry.promote("sample", first, EVENING)
    assert registry.promote("sample", second, EVENING + timedelta(days=7)) == first
    assert registry.promote("sample", second, EVENING + timedelta(days=8)) == second
    assert [model.model_version for model in registry.versions("sample")] == [second, first]
    assert [model.promoted_at for model in registry.versions("sample")] == [
        EVENING + timedelta(days=7),
        EVENING,
    ]
    serving = registry.serving("sample")
    assert serving is not None
    assert serving.model_version == second


def test_a_model_that_is_registered_already_stays_as_it_is(registry: Registry, home: Path) -> None:
    version = save_model(home, "a")
    registry.add("sample", version, "run-1", 1, TAGS)
    registry.add("sample", version, "run-2", 2, {"trained_through": "2019-01-31"})
    assert [model.run_id for model in registry.versions("sample")] == ["run-1"]
    assert registry.version("sample", version).trained_through == pd.Timestamp("2018-12-31")


def test_a_moved_workspace_still_finds_its_champion(registry: Registry, home: Path, tmp_path: Path) -> None:
    version = save_model(home, "a")
    registry.add("sample", version, "run-1", 1, TAGS)
    registry.promote("sample", version, EVENING)
    moved = tmp_path / "elsewhere"
    home.rename(moved)
    champion = Registry(moved, digest).champion("sample")
    assert champion is not None
    assert champion.directory == Workspace(moved).model("sample", version)


@pytest.mark.parametrize("harm", ["changed", "added", "gone"])
def test_a_damaged_model_is_named_with_its_version_and_the_fix(
    registry: Registry, home: Path, harm: str
) -> None:
    version = save_model(home, "a")
    registry.add("sample", version, "run-1", 1, TAGS)
    registry.promote("sample", version, EVENING)
    folder = Workspace(home).model("sample", version)
    if harm == "gone":
        shutil.rmtree(folder)
    else:
        (folder / ("model.json" if harm == "changed" else "stray")).write_text("harm")
    for ask in (
        lambda: registry.champion("sample"),
        lambda: registry.version("sample", version),
        lambda: registry.promote("sample", version, EVENING),
    ):
        with pytest.raises(NextdayError, match=f"{version} are missing or damaged") as error:
            ask()
        assert error.value.where == str(folder)
        assert "nextday retrain" in error.value.fix
    assert [model.model_version for model in registry.versions("sample")] == [version]


def test_an_unregistered_model_is_neither_found_nor_promoted(registry: Registry, home: Path) -> None:
    version = save_model(home, "a")
    with pytest.raises(NextdayError, match=f"no registered model {version}"):
        registry.version("sample", version)
    with pytest.raises(NextdayError, match=f"no registered model {version}"):
        registry.promote("sample", version, EVENING)
    assert registry.champion("sample") is None


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:-9])


def change(path: Path) -> None:
    path.write_text(path.read_text().replace("2018-12-31", "2018-11-30"))


def forget(path: Path) -> None:
    """Change the name of a needed fact."""
    path.write_text(path.read_text().replace("run_id", "run_if"))


@pytest.mark.parametrize("damage", [cut, change, forget])
def test_a_damaged_list_of_models_is_named_and_may_be_moved_away(
    registry: Registry, home: Path, damage: Callable[[Path], None]
) -> None:
    first, second = save_model(home, "a"), save_model(home, "b")
    registry.add("sample", first, "run-1", 1, TAGS)
    registry.promote("sample", first, EVENING)
    path = home / "models" / "sample" / "versions.json"
    damage(path)
    for attempt in (
        lambda: registry.versions("sample"),
        lambda: registry.version("sample", first),
        lambda: registry.add("sample", second, "run-2", 2, TAGS),
    ):
        with pytest.raises(NextdayError) as error:
            attempt()
        assert error.value.where == str(path)
    assert "move it away" in error.value.fix
    path.rename(path.with_suffix(".broken"))
    champion = registry.champion("sample")
    assert champion is not None
    assert champion.model_version == first
    registry.add("sample", second, "run-2", 2, TAGS)
    assert registry.promote("sample", second, EVENING) == first


@pytest.mark.parametrize("damage", [cut, change, forget, Path.unlink])
def test_a_damaged_champion_is_read_from_the_list_and_written_again(
    registry: Registry, home: Path, damage: Callable[[Path], None]
) -> None:
    for number, content in enumerate(["a", "b", "c"], start=1):
        registry.add("sample", save_model(home, content), f"run-{number}", number, TAGS)
    newest, second, first = [model.model_version for model in registry.versions("sample")]
    registry.promote("sample", second, EVENING)
    registry.promote("sample", first, EVENING + timedelta(days=7))
    path = home / "models" / "sample" / "champion.json"
    whole = path.read_bytes()
    damage(path)
    harmed, said = path.read_bytes() if path.exists() else None, list[str]()
    serving = registry.serving("sample")
    assert serving is not None
    assert serving.model_version == first != newest
    assert (path.read_bytes() if path.exists() else None) == harmed  # whoever only reads repairs nothing
    repairing = Registry(home, digest, said.append)
    for _ in range(2):
        assert repairing.serving("sample") == serving
    assert path.read_bytes() == whole
    assert len(said) == 1
    assert first in said[0]


def test_without_a_promoted_model_nothing_is_repaired(home: Path) -> None:
    said = list[str]()
    registry = Registry(home, digest, said.append)
    assert registry.serving("sample") is None
    registry.add("sample", save_model(home, "a"), "run-1", 1, TAGS)
    assert registry.serving("sample") is None
    assert said == []


def test_the_list_of_an_earlier_version_is_read_and_completed(registry: Registry, home: Path) -> None:
    first = save_model(home, "a")
    registry.add("sample", first, "run-1", 1, TAGS)
    registry.promote("sample", first, EVENING)
    for name in ("versions.json", "champion.json"):
        path = home / "models" / "sample" / name
        found = json.loads(path.read_text())
        for entry in found if isinstance(found, list) else [found]:
            del entry["sha256"]
        path.write_text(json.dumps(found))
    assert registry.champion("sample") is not None
    registry.add_evaluation("sample", first, {"scores.csv": "c0ffee"})
    serving = registry.serving("sample")
    assert serving is not None
    assert serving.evaluation == registry.version("sample", first).evaluation == {"scores.csv": "c0ffee"}
    change(home / "models" / "sample" / "versions.json")
    with pytest.raises(NextdayError, match="was changed"):
        registry.versions("sample")


def test_the_digests_of_an_evaluation_stay_as_they_were_registered(registry: Registry, home: Path) -> None:
    version = save_model(home, "a")
    registry.add("sample", version, "run-1", 1, TAGS, {"scores.csv": "c0ffee"})
    registry.add_evaluation("sample", version, {"scores.csv": "changed"})
    assert registry.version("sample", version).evaluation == {"scores.csv": "c0ffee"}


@pytest.mark.parametrize("name", ["", "Sample", "../etc", "a/b", "-a", "a b", "a\n", "a" * 64, "ü"])
def test_a_universe_that_could_not_be_a_folder_is_refused(registry: Registry, home: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a universe"):
        registry.champion(name)
    assert not home.exists()


def test_universes_have_their_own_champions(registry: Registry, home: Path) -> None:
    for universe, content in (("sample", "a"), ("0-acl_18", "b")):
        version = save_model(home, content, universe)
        registry.add(universe, version, "run", 1, TAGS)
        registry.promote(universe, version, EVENING)
    champions = [registry.champion(universe) for universe in ("sample", "0-acl_18")]
    assert len({champion.model_version for champion in champions if champion}) == 2


def test_models_registered_at_once_are_all_kept(registry: Registry, home: Path) -> None:
    versions = [save_model(home, str(n)) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda v: registry.add("sample", v, "run", 1, TAGS), versions))
    assert {model.model_version for model in registry.versions("sample")} == set(versions)


def test_finding_the_champion_imports_no_mlflow(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.tracking.runs import Tracking;"
        f"print(Tracking(Path({str(home)!r}), digest=str).champion('sample'), 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]
