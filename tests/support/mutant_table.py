"""Tell by module how many mutants the tests noticed: `mutmut results --all true` is what it reads."""

import sys
from collections import Counter
from collections.abc import Iterable

__all__ = ["tabulate"]

NOTICED = ("killed", "timeout", "segfault")
"""What mutmut says of a mutant that a test noticed; one that never ends is noticed too."""

MISSED = ("survived", "no tests", "suspicious")
"""What it says of one that no test noticed, or that none runs."""


def tabulate(results: Iterable[str]) -> str:
    """Return a table in Markdown, and below it each mutant that no test noticed.

    Args:
        results: Lines of `mutmut results`: "    pipeline.x.y.x_name__mutmut_1: killed".
    """
    found = [line.strip().rpartition(": ")[::2] for line in results if "__mutmut_" in line]
    tried = [(name, said) for name, said in found if said in NOTICED + MISSED]
    noticed, missed = Counter[str](), Counter[str]()
    for name, said in tried:
        (noticed if said in NOTICED else missed)[_name_module(name)] += 1
    noticed["all"], missed["all"] = noticed.total(), missed.total()
    rows = [
        f"| {module} | {noticed[module]} | {missed[module]} | {_share(noticed[module], missed[module])} |"
        for module in [*sorted({*noticed, *missed} - {"all"}), "all"]
    ]
    alive = [f"{said}: {name}" for name, said in tried if said in MISSED]
    return "\n".join(
        ["| module | killed | survived | share killed |", "|---|---|---|---|", *rows, "", *alive]
    )


def _name_module(mutant: str) -> str:
    """Return the file of a mutant, whose name ends with that of a function or of a class and its method."""
    return mutant.rpartition(".")[0].replace(".", "/") + ".py"


def _share(noticed: int, missed: int) -> str:
    return f"{noticed / (noticed + missed):.0%}" if noticed + missed else "none tried"


if __name__ == "__main__":
    print(tabulate(sys.stdin))
