"""What is printed while TensorFlow is imported: its own lines are shown only where the import itself failed."""

import os
import sys

import pytest

from flows.training.load_models import _silenced

LINES = b"slightly different numerical results due to floating-point round-off errors\n"


@pytest.fixture(autouse=True)
def not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)


def fail(cause: BaseException | None) -> None:
    """Print as TensorFlow does while it is imported, and fail as it does, which hides what has happened."""
    os.write(2, LINES)
    try:
        try:
            if cause is not None:
                raise cause
        except BaseException as error:
            raise SystemError("initialization of a module raised an exception") from error
    except SystemError:
        raise ImportError("Failed to load the native TensorFlow runtime.")  # noqa: B904 -- it is not chained there
    raise ImportError("no such file")


@pytest.mark.parametrize("cause", [None, ValueError("AVX is missing")])
def test_an_import_that_fails_shows_its_lines(
    capfd: pytest.CaptureFixture[str], cause: Exception | None
) -> None:
    with pytest.raises(ImportError), _silenced():
        fail(cause)
    assert capfd.readouterr().err == LINES.decode()


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), SystemExit(1)])
def test_an_import_that_was_interrupted_shows_none(
    capfd: pytest.CaptureFixture[str], cause: BaseException
) -> None:
    with pytest.raises(ImportError), _silenced():
        fail(cause)
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_an_import_that_succeeds_shows_none(capfd: pytest.CaptureFixture[str]) -> None:
    with _silenced():
        os.write(2, LINES)
    assert capfd.readouterr().err == ""
