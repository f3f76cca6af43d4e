"""Estimates in files of skops, which can hold no code: equal estimates give equal bytes.

scikit-learn and skops are imported where they are used: networks need neither.
"""

import json
import re
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile, ZipInfo

from models.errors import ModelError
from models.learners import Classified, Constant, Estimate

__all__ = ["estimator_file", "read_estimator", "save_estimator"]

_TRUSTED: Final = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
"""What a file of ours consists of, besides the types that skops trusts by itself: the trees of boosting."""

_MADE_OF: Final = {
    "logistic": ("Pipeline", ("StandardScaler", "LogisticRegression")),
    "boosting": ("HistGradientBoostingClassifier", ()),
}
_SCHEMA: Final = "schema.json"
_CONSTANT: Final = "constant"
_FIX: Final = "use a model that nextday trained, or train again"


def estimator_file(number: int) -> str:
    """Return the file name of an output's estimate, from 1."""
    return f"output-{number}.skops"


def save_estimator(estimate: Estimate, path: Path) -> None:
    """Write an estimate: a classifier, or a constant where the labels were all equal."""
    import skops.io

    if isinstance(estimate, Constant):
        skops.io.dump({_CONSTANT: estimate.p_up}, path)
    else:
        assert isinstance(estimate, Classified)
        skops.io.dump(estimate.classifier, path)
    _make_reproducible(path)


def read_estimator(path: Path, kind: str) -> Estimate:
    """Return the estimate of a file of `save_estimator`; no code in it is ever run.

    Args:
        path: The file.
        kind: boosting or logistic.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    import skops.io

    try:
        found = skops.io.load(path, trusted=[*_TRUSTED])
        if isinstance(found, dict):
            return Constant(float(found[_CONSTANT]))
        _check_parts(found, *_MADE_OF[kind])
        return Classified(found)
    # skops and the readers of zip and JSON raise errors of every kind.
    except Exception as broken:
        reason = (str(broken) or type(broken).__name__).splitlines()[0]
        raise ModelError(f"this classifier is refused: {reason}", where=str(path), fix=_FIX) from None


def _check_parts(found: Any, name: str, steps: tuple[str, ...]) -> None:
    """Raise unless it is a classifier of the expected class, a pipeline of the expected steps."""
    names = (type(found).__name__, tuple(type(step).__name__ for _, step in getattr(found, "steps", ())))
    if names != (name, steps):
        raise ValueError(f"it holds a {names[0]} with the steps {list(names[1])}")


def _make_reproducible(path: Path) -> None:
    """Replace the addresses of objects, which number the parts, by their order, and drop the hour of saving."""
    with ZipFile(path) as saved:
        parts = {name: saved.read(name) for name in saved.namelist()}
    seen: dict[bytes, int] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return found[1] + b"%d" % seen.setdefault(found[2], len(seen))

    schema = re.sub(rb'("__id__": |"file": ")(\d+)', number, parts.pop(_SCHEMA))
    named = {name: name.partition(".") for name in parts}
    renamed = {f"{seen[stem.encode()]}.{ending}": name for name, (stem, _, ending) in named.items()}
    with ZipFile(path, "w") as plain:
        plain.writestr(ZipInfo(_SCHEMA), json.dumps(json.loads(schema)))
        for name in sorted(renamed, key=lambda each: int(each.partition(".")[0])):
            plain.writestr(ZipInfo(name), parts[renamed[name]])
