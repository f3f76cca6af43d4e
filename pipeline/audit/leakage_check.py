"""The form of a leakage check: it looks for one thing that a sound procedure never does, and reports evidence."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, ParamSpec

__all__ = ["Check", "CheckResult", "Status", "leakage_check"]

P = ParamSpec("P")
Status = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class CheckResult:
    """The result of a check: its status, and evidence in numbers; a failure names the first offender."""

    status: Status
    evidence: str


@dataclass(frozen=True)
class Check:
    """One check of an audit, as it is reported and recorded.

    Attributes:
        name: A few words.
        what: What the check did, in one sentence.
        status: passed, failed, or not applicable.
        evidence: The numbers, or the first symbol, session and feature that offends.
    """

    name: str
    what: str
    status: Status
    evidence: str


def leakage_check(name: str, what: str) -> Callable[[Callable[P, CheckResult]], Callable[P, Check]]:
    """Return a decorator that turns a function into a check; an error with a fix fails the check with its message.

    Args:
        name: The check's name, in a few words.
        what: What the check does, in one sentence.
    """

    def decorate(examine: Callable[P, CheckResult]) -> Callable[P, Check]:
        @functools.wraps(examine)
        def check(*args: P.args, **kwargs: P.kwargs) -> Check:
            try:
                result = examine(*args, **kwargs)
            except Exception as error:
                if not hasattr(error, "fix"):  # neither a NextdayError nor a ModelError
                    raise
                result = CheckResult("failed", " ".join(str(error).split()))
            return Check(name, what, result.status, result.evidence)

        return check

    return decorate
