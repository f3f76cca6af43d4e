"""A saved model is a folder that comes into being whole, and whose version is what it holds."""

import json
import os
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from models.ensembles.model_files import (
    make_reproducible,
    model_version,
    read_metadata,
    verify,
    write_metadata,
    writing,
)
from models.errors import ModelError


def saved(directory: Path, content: str = "weights", note: str = "") -> Path:
    with writing(directory) as draft:
        (draft / "member-1.keras").write_text(content)
        write_metadata(draft, {"note": note})
    return directory


def test_the_version_follows_the_files_and_the_metadata_and_nothing_else(tmp_path: Path) -> None:
    version = model_version(saved(tmp_path / "a"))
    assert len(version) == 16
    assert model_version(saved(tmp_path / "elsewhere" / "b")) == version
    assert model_version(saved(tmp_path / "c", content="other")) != version
    assert model_version(saved(tmp_path / "d", note="other")) != version


def test_a_file_that_joined_the_folder_makes_another_version(tmp_path: Path) -> None:
    version = model_version(saved(tmp_path / "a"))
    verify(tmp_path / "a", version)
    (tmp_path / "a" / "member-2.keras").write_text("weights")
    with pytest.raises(ModelError, match=version):
        verify(tmp_path / "a", version)


def test_the_metadata_holds_the_digest_of_every_file(tmp_path: Path) -> None:
    metadata = read_metadata(saved(tmp_path / "a", note="kept"))
    assert metadata["note"] == "kept"
    assert metadata["files"] == {"member-1.keras": sha256(b"weights").hexdigest()}


def test_a_changed_or_missing_file_is_named(tmp_path: Path) -> None:
    file = saved(tmp_path / "a") / "member-1.keras"
    file.write_text("weighty")
    with pytest.raises(ModelError, match="changed") as refused:
        read_metadata(tmp_path / "a")
    assert str(file) in str(refused.value)
    file.unlink()
    with pytest.raises(ModelError, match="missing") as refused:
        read_metadata(tmp_path / "a")
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "\x00\xff"])
def test_damaged_metadata_is_named(tmp_path: Path, text: str) -> None:
    (saved(tmp_path / "a") / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        read_metadata(tmp_path / "a")


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    for read in (read_metadata, model_version):
        with pytest.raises(ModelError, match="no model here"):
            read(tmp_path)


def test_a_save_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="JSON"), writing(tmp_path / "models" / "a") as draft:
        write_metadata(draft, {"extra": tmp_path})
    assert list((tmp_path / "models").iterdir()) == []


def test_what_a_killed_writer_left_is_gone_after_the_next_save(tmp_path: Path) -> None:
    half = tmp_path / ".saving-a"
    half.mkdir()
    (half / "member-2.keras").write_text("wei")
    version = model_version(saved(tmp_path / "b"))
    assert model_version(saved(tmp_path / "a")) == version
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_full_disk_is_told_with_the_place_and_a_fix(tmp_path: Path) -> None:
    def save_on_a_full_disk() -> None:
        with writing(tmp_path / "a"):
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    with pytest.raises(ModelError, match="No space left on device") as refused:
        save_on_a_full_disk()
    assert refused.value.where == str(tmp_path / "a")
    assert "free space" in refused.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_network_saved_at_another_hour_from_other_addresses_has_the_same_bytes(tmp_path: Path) -> None:
    archives = []
    for year, first, second in [(1999, 140, 77), (2026, 3, 4)]:
        archives.append(tmp_path / f"{year}.keras")
        shared = [{"shared_object_id": number} for number in (first, second, first)]
        with ZipFile(archives[-1], "w") as archive:
            archive.writestr(
                "metadata.json", f'{{"keras_version": "3", "date_saved": "{year}-11-21@11:48:17"}}'
            )
            archive.writestr("config.json", json.dumps(shared))
            archive.writestr(ZipInfo("model.weights.h5", (year, 1, 1, 0, 0, 0)), b"\x00weights")
        make_reproducible(archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with ZipFile(archives[0]) as archive:
        assert json.loads(archive.read("metadata.json")) == {"keras_version": "3"}
        assert [one["shared_object_id"] for one in json.loads(archive.read("config.json"))] == [0, 1, 0]
        assert archive.read("model.weights.h5") == b"\x00weights"


def test_a_model_is_never_overwritten(tmp_path: Path) -> None:
    version = model_version(saved(tmp_path / "a"))
    with pytest.raises(ModelError, match="something here already"):
        saved(tmp_path / "a", content="other")
    assert model_version(tmp_path / "a") == version
