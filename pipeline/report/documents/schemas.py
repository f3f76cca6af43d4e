"""The JSON Schema of every document, made from its pydantic model: docs/schemas holds them as files."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from pipeline.report.documents.answers import BacktestAnswer, Doctor, Forecast, LedgerRows, PricesCheck
from pipeline.report.documents.evening import Latest, Record
from pipeline.report.documents.failure import Failure

__all__ = ["DOCUMENTS", "make_schema"]

DOCUMENTS: Final[Mapping[str, type[BaseModel]]] = {
    "latest": Latest,
    "record": Record,
    "forecast": Forecast,
    "ledger_rows": LedgerRows,
    "doctor": Doctor,
    "prices_check": PricesCheck,
    "backtest": BacktestAnswer,
    "error": Failure,
}
"""Every document by its name."""


class _Untitled(GenerateJsonSchema):
    """Gives no field a title: it would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False."""
        return False


def make_schema(name: str) -> str:
    """Return the JSON Schema (draft 2020-12) of a document as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    made = schema | DOCUMENTS[name].model_json_schema(mode="serialization", schema_generator=_Untitled)
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"
