"""A process counts the cores that it was given, not those of the machine."""

import builtins
import os
from pathlib import Path
from typing import Any

import pytest

from models.cores import count_cores

QUOTA = "/sys/fs/cgroup/cpu.max"


@pytest.fixture(autouse=True)
def eight_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that holds the CPU quota of a machine of eight cores, without a quota yet."""
    quota, exists, opened = tmp_path / "cpu.max", os.path.exists, open
    quota.write_text("max 100000\n")

    def place(path: Any) -> Any:
        return quota if path == QUOTA else path

    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(os.path, "exists", lambda path: exists(place(path)))
    monkeypatch.setattr(builtins, "open", lambda path, *args, **kwargs: opened(place(path), *args, **kwargs))
    return quota


def test_without_a_limit_all_cores_count() -> None:
    assert count_cores() == 8


def test_cpu_affinity_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert count_cores() == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("50000 100000", 1), ("150000 100000", 2), ("400000 100000", 4)]
)
def test_a_containers_cpu_quota_limits_the_cores(eight_cores: Path, quota: str, cores: int) -> None:
    eight_cores.write_text(f"{quota}\n")
    assert count_cores() == cores
