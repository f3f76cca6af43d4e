"""The document of a command that failed; it imports little, because a wrong argument is answered at once."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Failure", "Fault"]


class Fault(BaseModel):
    """One thing that went wrong: what, where (a file, a key, an option), and how to fix it; both may be empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    where: str
    fix: str


class Failure(BaseModel):
    """What a command with --json answers where it fails: 1 is a failure, 2 invalid input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    document: Literal["error"] = "error"
    exit_code: int = Field(ge=1)
    errors: list[Fault] = Field(min_length=1)

    @classmethod
    def read(cls, exit_code: int, what: str, where: str = "", fix: str = "") -> Self:
        """Return the document of an error whose lines are one fault each."""
        lines = [line for line in what.splitlines() if line.strip()] or ["it failed without a message"]
        return cls(exit_code=exit_code, errors=[Fault(what=line, where=where, fix=fix) for line in lines])

    def to_text(self) -> str:
        """Return the document as text, with a line feed at its end."""
        return self.model_dump_json(indent=1) + "\n"
