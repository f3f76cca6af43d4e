"""A folder copied to an S3 server on loopback: pages that a browser shows, only what changed, links last."""

import json
import os
from pathlib import Path

import boto3
import pytest

from pipeline.errors import CopyError
from pipeline.storage.object_folder import ObjectFolder, State
from tests.support.object_store import BUCKET, SECRET, ObjectStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    (folder / "2019-01-02").mkdir(parents=True)
    for name in ("2019-01-02/report.html", "2019-01-02/forecast.csv", "latest.csv", "index.html"):
        (folder / name).write_text(f"content of {name}")
    return folder


NAMES, LAST = ["2019-01-02/report.html", "2019-01-02/forecast.csv"], ["latest.csv", "index.html"]


def store_of(tmp_path: Path) -> ObjectFolder:
    return ObjectFolder(f"s3://{BUCKET}/{tmp_path.name}/sample/")


def read(s3: ObjectStore, tmp_path: Path, name: str) -> tuple[str, str]:
    """Return the content and the media type of an object, by another client."""
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    found = client.get_object(Bucket=BUCKET, Key=f"{tmp_path.name}/sample/{name}")
    return found["Body"].read().decode(), found["ContentType"]


def test_pages_and_tables_are_copied_as_what_they_are(folder: Path, tmp_path: Path, s3: ObjectStore) -> None:
    copied: State = {}
    assert store_of(tmp_path).copy(folder, NAMES, LAST, copied) == 4
    assert copied.keys() == {*NAMES, *LAST}
    expected = "content of 2019-01-02/report.html", "text/html; charset=utf-8"
    assert read(s3, tmp_path, NAMES[0]) == expected
    assert read(s3, tmp_path, "latest.csv")[1] == "text/csv; charset=utf-8"
    assert store_of(tmp_path).sizes() == {name: len(f"content of {name}") for name in (*NAMES, *LAST)}


def test_only_what_has_changed_or_is_lost_is_written_again(
    folder: Path, tmp_path: Path, s3: ObjectStore
) -> None:
    copied: State = {}
    store_of(tmp_path).copy(folder, NAMES, LAST, copied)
    copied = {name: tuple(facts) for name, facts in json.loads(json.dumps(copied)).items()}
    with s3.fault("500", "PUT"):
        assert store_of(tmp_path).copy(folder, NAMES, LAST, copied) == 0
    (folder / "index.html").write_text("another evening, as long")
    boto3.client("s3", endpoint_url=s3.endpoint).delete_object(
        Bucket=BUCKET, Key=f"{tmp_path.name}/sample/{NAMES[1]}"
    )
    assert store_of(tmp_path).copy(folder, NAMES, LAST, copied) == 2
    assert read(s3, tmp_path, "index.html")[0] == "another evening, as long"
    # What was changed without another length is noticed by its time.
    os.utime(folder / "latest.csv", ns=(1, 1))
    assert store_of(tmp_path).copy(folder, NAMES, LAST, copied) == 1
    # A removed file stays in the store, and is known no more.
    (folder / NAMES[0]).unlink()
    assert store_of(tmp_path).copy(folder, NAMES[1:], LAST, copied) == 0
    assert NAMES[0] not in copied
    assert NAMES[0] in store_of(tmp_path).sizes()


def test_what_links_to_the_others_is_not_written_before_them_and_the_next_copy_goes_on(
    folder: Path, tmp_path: Path, s3: ObjectStore
) -> None:
    copied: State = {}
    with s3.fault("403", "PUT", "report.html"), pytest.raises(CopyError, match="refuses access"):
        store_of(tmp_path).copy(folder, NAMES, LAST, copied)
    assert store_of(tmp_path).sizes().keys() == {NAMES[1]}
    assert copied.keys() == {NAMES[1]}
    assert store_of(tmp_path).copy(folder, NAMES, LAST, copied) == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [("403", "refuses access"), ("500", "answers with errors"), ("cut", "cannot be reached")],
)
def test_a_failure_names_bucket_and_endpoint_and_no_key(
    tmp_path: Path, s3: ObjectStore, fault: str, said: str
) -> None:
    with s3.fault(fault), pytest.raises(CopyError, match=said) as failed:
        store_of(tmp_path).sizes()
    assert f"{BUCKET}/{tmp_path.name}" in str(failed.value)
    assert s3.endpoint in str(failed.value)
    for secret in (SECRET, os.environ["AWS_ACCESS_KEY_ID"]):
        assert secret not in str(failed.value)


def test_a_bucket_that_is_not_there_is_named(folder: Path, tmp_path: Path, s3: ObjectStore) -> None:
    with pytest.raises(CopyError, match="does not have this bucket"):
        ObjectFolder("s3://nowhere/reports").copy(folder, NAMES, LAST, {})
    with pytest.raises(CopyError, match="does not have this bucket"):
        ObjectFolder("s3://nowhere/reports").write("index.html", folder / "index.html")
