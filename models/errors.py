"""The error of the models: what happened, where, and what to do about it."""

__all__ = ["ModelError"]


class ModelError(Exception):
    """Something a model could not do: exit code 1.

    `pipeline.errors.NextdayError` has the same attributes (`what`, `where`, `fix`, `exit_code`) and text; the two are
    separate because models import nothing from pipeline. Code that handles both reads these attributes alone.

    Args:
        what: What happened, in one sentence, with the values that matter.
        where: The file, range or member it happened in.
        fix: What the reader can do about it.
    """

    exit_code = 1
    row: int | None = None
    """The row of the block whose own model it is about; None: not one symbol's."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        """Return the three parts, one a line."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)
