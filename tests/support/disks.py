"""Small disks, mounted for one test."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import skip_unless


@contextmanager
def disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a separate disk for the block; without the permission, skip the test."""
    place.mkdir()
    is_mounted = not mount(place, f"size={kilobytes}k", "-t", "tmpfs", "tmpfs")
    skip_unless(is_mounted, "a disk of its own, which only root may mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def mount(place: Path, options: str, *what: str) -> int:
    if not shutil.which("mount"):
        return 1
    return subprocess.run(["mount", "-o", options, *what, place], capture_output=True, check=False).returncode


def used_kilobytes(place: Path) -> int:
    return shutil.disk_usage(place).used // 1024
