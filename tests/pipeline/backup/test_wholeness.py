"""A backup compares all that has a digest: a damaged file is named and nothing is copied."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.ensembles.model_files import model_version
from pipeline.backup.wholeness import find_damage
from pipeline.errors import NextdayError
from pipeline.market.calendar import Calendar
from tests.support.full_workspace import copy, make_workspace, promote

KINDS = [
    "models/sample/*/member.keras",
    "models/sample/*/model.json",
    "models/sample/versions.json",
    "models/sample/champion.json",
    "evaluations/sample/*/scores.csv",
    "evaluations/sample/*/test_rows.parquet",
    "settings/*.json",
    "trials/sample.jsonl",
    "prices/sample.fetches.sqlite",
    "prices/sample/year=*/*.parquet",
    "ledger.sqlite",
    "ledger.head.json",
]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    return make_workspace(tmp_path_factory.mktemp("once") / "w", xnys)


@pytest.fixture
def home(tmp_path: Path, made_once: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "w"))


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(min(100, len(content) // 2), len(content), 64):
        content[place] ^= 2
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [change, cut])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_and_the_backup_of_before_stays(
    home: Path, tmp_path: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    made = copy(home, tmp_path / "c.tar").path
    before = made.read_bytes()
    path = max(home.glob(kind), key=lambda path: path.stat().st_mtime_ns)
    damage(path)
    with pytest.raises(NextdayError) as error:
        copy(home, made)
    named = f"{error.value.what} {error.value.where}"
    place = path.relative_to(home)
    assert place.name in named or ("/" in kind and place.parent.name in named) or "ledger" in named.lower()
    assert error.value.fix
    assert made.read_bytes() == before


def test_a_whole_workspace_has_no_damage(home: Path) -> None:
    promote(home, "b")
    assert find_damage(home, model_version) == []


def test_a_model_that_was_removed_on_purpose_is_no_damage_unless_it_serves(home: Path) -> None:
    (old,) = [path for path in (home / "models" / "sample").iterdir() if path.is_dir()]
    serving = promote(home, "b")
    shutil.rmtree(old)
    shutil.rmtree(home / "evaluations" / "sample" / old.name)
    assert find_damage(home, model_version) == []
    shutil.rmtree(home / "models" / "sample" / serving)
    (damage,) = find_damage(home, model_version)
    assert damage.startswith(f"models/sample/{serving}: ")


def test_all_damage_is_named_at_once(home: Path, tmp_path: Path) -> None:
    for kind in KINDS[4:8]:
        change(next(home.glob(kind)))
    with pytest.raises(NextdayError) as error:
        copy(home, tmp_path / "c.tar")
    for name in ("scores.csv", "test_rows.parquet", "settings/", "trials/sample.jsonl"):
        assert name in error.value.what
