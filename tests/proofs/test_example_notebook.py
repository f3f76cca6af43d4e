"""The notebook of examples/ runs as it stands and shows again what it shows."""

import re

import nbformat
import pytest

from docs.execute_notebook import NOTEBOOK, execute, list_outputs

pytestmark = pytest.mark.proof

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


def digest_free(text: str) -> str:
    """Return the text without the ledger's head: it seals every digit of the forecasts."""
    return re.sub(r"\b[0-9a-f]{64}\b", "HEAD", text)


def test_the_notebook_shows_what_it_shows_in_the_repository() -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)
    assert NOTEBOOK.stat().st_size < 300_000
    texts = [digest_free(text) for text in list_outputs(committed)]
    planted, noise = "".join(texts).split("repeats 0.00")
    assert "on the same rows: improvement" in planted
    assert "No edge found" in noise
    assert "no improvement beyond chance" in noise
    again = [digest_free(text) for text in list_outputs(execute(NOTEBOOK))]
    assert len(again) == len(texts)
    for before, after in zip(texts, again, strict=True):
        assert NUMBER.sub("#", after) == NUMBER.sub("#", before)
        numbers = [
            [float(each.replace(",", "")) for each in NUMBER.findall(text)] for text in (before, after)
        ]
        # Another processor may round the last digit shown otherwise.
        assert numbers[1] == pytest.approx(numbers[0], abs=1.1e-4)
