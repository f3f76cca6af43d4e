"""What [storage] refuses, and how: each fault in words, and no key or password repeated."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config_file import load
from pipeline.errors import ConfigError, InputError
from pipeline.ledger.ledger import Ledger
from pipeline.prices.ingest.fetch_log import FetchLog
from pipeline.storage.workspace import Workspace

ADDRESS = "postgresql://me@127.0.0.1:1/desk?schema=quant"


def refusal(folder: Path, *lines: str) -> str:
    path = folder / "nextday.toml"
    path.write_text("\n".join(["[storage]", *lines]))
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert (refused.value.exit_code, refused.value.where) == (2, str(path))
    return refused.value.what


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('prices = "ftp://bucket/x"', "storage.prices: it is no address of an object store"),
        ('prices = "folder/x"', "storage.prices: it is no address of an object store"),
        ('prices = "s3://"', "storage.prices: it names no bucket"),
        ('prices = "s3:///x"', "storage.prices: it names no bucket"),
        ('prices = "s3://AKIA:hidden@bucket/x"', "they come from the AWS_* variables"),
        ('prices = "s3://bucket/x?key=hidden"', "they come from the AWS_* variables"),
        ('prices = "s3://bucket//x"', "single /"),
        ('ledger = "mysql://me@host/desk"', 'storage.ledger: write "postgresql://user@host/database'),
        ('ledger = "postgresql://me:hidden@host/desk"', "without a password"),
        ('ledger = "postgresql://host/desk?password=hidden"', "without a password"),
        ('ledger = "postgresql://host"', 'storage.ledger: write "postgresql://user@host/database'),
        ('ledger = "env:"', 'or "env:NAME"'),
        ('price = "s3://bucket"', "storage.price: there is no such key; did you mean 'prices'?"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused_with_what_to_write(
    tmp_path: Path, line: str, told: str
) -> None:
    said = refusal(tmp_path, line)
    assert told in said
    assert "hidden" not in said


def test_two_faults_are_told_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, 'prices = "http://host/x"', 'ledger = "s3://bucket"')
    assert [line.split(":")[0] for line in said.splitlines()] == ["storage.prices", "storage.ledger"]


@pytest.mark.parametrize(
    "line",
    ['prices = "s3://bucket"', 'prices = "gs://bucket/a/b=1/"', 'prices = "az://c/x"', 'ledger = "env:DESK"',
     f'ledger = "{ADDRESS}"'],
)  # fmt: skip
def test_a_place_that_can_be_used_is_kept_as_it_is_written(tmp_path: Path, line: str) -> None:
    path = tmp_path / "nextday.toml"
    path.write_text(f"[storage]\n{line}\n")
    assert line.split('"')[1] in load(path).storage.model_dump().values()


@pytest.mark.parametrize(
    ("what", "use"),
    [
        ("ledger", lambda place: Ledger(place.ledger)),
        ("fetch log", lambda place: FetchLog(place.fetch_log("u")).quarantined()),
    ],
)
def test_a_missing_driver_is_told_with_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, use: Callable[[Workspace], object]
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=f"The {what} is on PostgreSQL, and its driver is not") as refused:
        use(Workspace(tmp_path, ADDRESS))
    assert refused.value.exit_code == 2
    assert refused.value.where.startswith("postgresql://me@127.0.0.1:1/desk?schema=quant")
    assert refused.value.fix == 'install the extra: pip install "nextday[postgres]"'
