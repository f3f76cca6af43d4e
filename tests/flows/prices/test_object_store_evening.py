"""A command whose prices lie on an object store: what it stores, and how it ends when the store fails."""

from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.command_line import CommandLine
from tests.support.in_use import GOOD, universe
from tests.support.object_store import BUCKET, KEY_ID, SECRET, ObjectStore

CLOCK = ("--config", "nextday.toml", "--now", "2018-12-20T22:00Z")


def test_an_update_that_the_store_refuses_ends_with_2_and_its_rerun_goes_on(
    s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    url = f"s3://{BUCKET}/{uuid4().hex}"
    Path("prices.csv").write_text(GOOD)
    Path("nextday.toml").write_text(universe('path = "prices.csv"', f'[storage]\nprices = "{url}"\n'))
    with s3.fault("403", "PUT"):
        refused = nextday(*CLOCK, "--home", "one", "update")
    assert (refused.code, "refuses access (403)" in refused.err) == (2, True)
    assert f"{url}/u at {s3.endpoint}" in " ".join(refused.err.split())
    assert nextday(*CLOCK, "--home", "one", "update").code == 0
    shown = nextday(*CLOCK, "--home", "one", "prices", "show", "A")
    assert (shown.code, "2018-12-14" in shown.out) == (0, True)
    other = nextday(*CLOCK, "--home", "two", "prices", "export", "--csv", "-")  # another machine
    assert (other.code, len(other.out.splitlines())) == (0, 15)
    assert not Path("one/prices/u").exists()
    kept = nextday(*CLOCK, "--home", "one", "backup", "copies")
    assert kept.code == 0, kept.err
    assert f"prices: not in this backup, they lie on {url}" in kept.out
    back = nextday(*CLOCK, "--home", "two", "prices", "copy", "--to", "folder")
    assert (back.code, "and verified, version 1" in back.out) == (0, True)
    again = nextday(*CLOCK, "--home", "two", "prices", "copy", "--to", f"s3://k:{SECRET}@{BUCKET}/x")
    assert (again.code, SECRET in again.out + again.err) == (2, False)
    here = nextday(*CLOCK, "--home", "two", "prices", "copy", "--to", url)
    assert (here.code, "lie there already" in here.err) == (2, True)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret.encode() in content for content in written for secret in (KEY_ID, SECRET))
