"""What every section of the settings is made of: its base, and the types of its values."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from pipeline.schema import SYMBOL_PATTERN

__all__ = ["Plain", "Section", "Symbol"]

Symbol = Annotated[str, Field(pattern=SYMBOL_PATTERN)]
Plain = str | int | float | bool


class Section(BaseModel):
    """Base of every section: frozen, without unknown keys, without NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: object, about: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(about.field_name)].annotation is not bool:
            raise ValueError("true and false are not valid here")
        return value
