"""Write docs/schemas/*.json from the pydantic models of the JSON documents: run `make schemas`.

tests/pipeline/report/test_documents.py checks that the committed files are up to date.
"""

from pathlib import Path
from typing import Final

from pipeline.report.documents.schemas import DOCUMENTS, make_schema

FOLDER: Final = Path(__file__).resolve().parent / "schemas"
"""The committed schemas."""

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in DOCUMENTS:
        (FOLDER / f"{name}.schema.json").write_text(make_schema(name), encoding="utf-8")
