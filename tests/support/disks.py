"""Small disks, mounted for one test."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import skip_unless


@contextmanager
def disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a separate disk for the block; without the permission, skip the test."""
    _unmount_left_ones()
    place.mkdir()
    is_mounted = not mount(place, f"size={kilobytes}k", "-t", "tmpfs", f"{_OWNER}{os.getpid()}")
    skip_unless(is_mounted, "a disk of its own, which only root may mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


_OWNER = "nextday-test-"


def _unmount_left_ones() -> None:
    """Unmount the disks whose test was killed before it could."""
    mounts = Path("/proc/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        source, place = line.split()[:2]
        pid = source.removeprefix(_OWNER)
        if pid != source and not Path("/proc", pid).exists():
            subprocess.run(["umount", place], check=False)


def mount(place: Path, options: str, *what: str) -> int:
    if not shutil.which("mount"):
        return 1
    return subprocess.run(["mount", "-o", options, *what, place], capture_output=True, check=False).returncode


def used_kilobytes(place: Path) -> int:
    return shutil.disk_usage(place).used // 1024
