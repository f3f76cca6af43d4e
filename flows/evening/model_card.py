"""The model card: what a model is, how it was trained and how it was calibrated."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flows.runtime.context import Run
from flows.training.verified_champion import Champion
from models.calibration.bayes import Slope
from models.calibration.calibrator import Calibrator, read_calibrator
from models.calibration.curves import Curve, name_curve
from models.calibration.isotonic import Isotonic
from models.calibration.temperature import Temperature
from models.ensembles import custom_ensemble
from models.ensembles.model_files import CLASSIFIER
from models.networks.network import Network
from pipeline.errors import StoreError
from pipeline.formatting import format_alike, format_percent
from pipeline.outputs import MAIN, Output, describe_output, describe_outputs
from pipeline.tracking.challengers import ChallengerBook, Promotion

__all__ = [
    "build_model_card",
    "describe_agreement",
    "describe_calibration",
    "describe_classifier",
    "describe_custom_model",
    "describe_scope",
    "list_promotions",
]

_KINDS = {"gru": "GRU", "lstm": "LSTM", "rnn": "Elman RNN", "tcn": "TCN"}
_CLASSIFIERS = {
    "boosting": "gradient boosting, 50 trees of at most 8 leaves",
    "logistic": "logistic regression, its penalty chosen on the stop range",
}
_ALWAYS = "issued for every forecast, up above 50%"


def build_model_card(champion: Champion, promotions: Sequence[Promotion] = ()) -> dict[str, str]:
    """Return the lines of the model card: name and text.

    Args:
        champion: The model.
        promotions: Why champions changed; the last one of this model says why it serves.
    """
    facts, outputs = champion.metadata, champion.outputs
    why = next((each for each in reversed(promotions) if each.model_version == champion.version), None)
    return {
        "version": champion.version,
        **_describe_model(champion),
        **({"outputs": describe_outputs([*outputs])} if outputs != (MAIN,) else {}),
        "trained through": f"{champion.trained_through:%Y-%m-%d}",
        "ensemble members agree": describe_agreement(facts),
        **({"serves because": why.in_words} if why else {}),
        **describe_calibration(facts, outputs),
        "dead zone": "none" if champion.dead_zone == [0, 0] else str(champion.dead_zone),
        **_describe_engine(facts),
    }


def list_promotions(run: Run) -> list[Promotion]:
    """Return why champions changed; nothing where that cannot be read: the doctor says so, the report is written."""
    with suppress(StoreError):
        return ChallengerBook(run.workspace.home).promotions(run.name)
    return []


def _describe_model(champion: Champion) -> dict[str, str]:
    """Return the lines on what was trained, and from what."""
    facts = shape = champion.metadata
    if facts.get("family") == custom_ensemble.FAMILY:
        custom = describe_custom_model(champion.kind, champion.options)
        made = {"model": f"{custom}, code {champion.code['model_code']}"}
    elif facts.get("family") == CLASSIFIER:
        made = {"model": describe_classifier(champion.kind)}
        if champion.resolve_settings()["training"].get("refit"):
            made["trained"] = "on the training sessions, then a second fit"
    else:
        shape = facts["network"]
        made = {
            "network": _describe_network(shape, facts["parameters"]),
            "trained": _describe_training(shape, facts["training"])
            + _describe_regularization(facts["training"], champion.settings)
            + (", then a second fit" if champion.resolve_settings()["training"].get("refit") else ""),
            "scope": describe_scope(facts),
        }
    return {
        **made,
        "ensemble members": _describe_members(facts["seeds"]),
        "lookback": f"{shape['lookback']} sessions",
        "features": f"{' + '.join((champion.features, *champion.added))} ({shape['features']} columns)",
    }


def _describe_members(seeds: Sequence[int]) -> str:
    return f"{len(seeds)}, seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"1, seed {seeds[0]}"


def describe_classifier(kind: str) -> str:
    """Return what a classifier is, by [model] kind."""
    return _CLASSIFIERS[kind]


def describe_custom_model(kind: str, options: Mapping[str, Any]) -> str:
    """Return where a custom model's class is and the options it is made with.

    Args:
        kind: [model] kind.
        options: [model] options.
    """
    given = ", ".join(f"{name} = {value!r}" for name, value in options.items())
    return f"{kind}{f' with {given}' if given else ''}"


def _describe_engine(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the libraries that made a network; those of a custom model are not known here."""
    if facts.get("family") == custom_ensemble.FAMILY:
        return {}
    if facts.get("family") == CLASSIFIER:
        return {"made with": f"scikit-learn {facts['sklearn']}, skops {facts['skops']}"}
    return {"made with": f"Keras {facts['keras']}, TensorFlow {facts['tensorflow']}"}


def _describe_network(network: Mapping[str, Any], parameters: int) -> str:
    """Return the network of each member and how many parameters it has."""
    extras = [f"a causal convolution of {network['convolution']}"] if network.get("convolution") else []
    extras += ["attention"] if network.get("attention") else []
    extras += ["a linear skip"] if network.get("linear_skip") else []
    if network["kind"] == "linear":
        return f"linear map of the window, {parameters:,} parameters"
    levels = f"{len(Network(**network).dilations)} levels of " if network["kind"] == "tcn" else ""
    size = f"{levels}{network['layers']} x {network['units']} units"
    parts = [f"{_KINDS[network['kind']]}, {size}", *extras]
    return f"{', '.join(parts)}, {parameters:,} parameters"


def _describe_training(network: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Return the training mode: the input of one training example and its labels."""
    if network.get("mode", "windowed") == "windowed":
        return f"windowed: a window of {network['lookback']} sessions, one label"
    after = network["lookback"] - 1
    return f"sequence: chunks of {training['chunk']} sessions, a label at each after the first {after}"


def _describe_regularization(training: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the settings of regularization and weights that are on; empty: none."""
    names = ("dropout", "weight_decay", "adversarial")
    told = [f"{name.replace('_', ' ')} {training[name]:g}" for name in names if training.get(name)]
    weight = settings["training"].get("sample_weight", "none")
    return "".join(f", {each}" for each in [*told, *[f"rows weighted: {weight}"] * (weight != "none")])


def describe_calibration(facts: Mapping[str, Any], outputs: Sequence[Output]) -> dict[str, str]:
    """Return the lines on calibration and on when a direction is issued.

    Args:
        facts: The metadata of a saved model, pooled or per symbol.
        outputs: What it forecasts.
    """
    if "calibrators" in facts:
        return _describe_symbols([read_calibrator(kept) for kept in facts["calibrators"]])
    calibrator = read_calibrator(facts["calibrator"])
    count = range(len(outputs))
    compared = _by_output(outputs, [_compare(calibrator, h) for h in count])
    return {
        "calibration": _by_output(outputs, [_describe_curve(curve) for curve in calibrator.curves]),
        **({"compared by cross-validation": compared} if compared else {}),
        "direction": _by_output(outputs, [_describe_threshold(calibrator, h) for h in count]),
    }


def _describe_symbols(calibrators: list[Calibrator]) -> dict[str, str]:
    """Describe per-symbol calibration: how many curves by each method, and the range of the thresholds."""
    methods = Counter(name_curve(curve) for each in calibrators for curve in each.curves)
    thresholds = [100 * value for each in calibrators for value in each.abstention.threshold]
    target = calibrators[0].abstention.target
    return {
        "calibration": f"per symbol: {', '.join(f'{n:,} by {name}' for name, n in methods.most_common())}",
        "direction": _ALWAYS
        if target == 1
        else f"issued at {min(thresholds):.2f} to {max(thresholds):.2f} points or more from 50%, per symbol "
        f"(target {format_percent(target)})",
    }


def _by_output(outputs: Sequence[Output], texts: list[str]) -> str:
    if len(outputs) == 1:
        return texts[0]
    named = zip(map(describe_output, outputs), texts, strict=True)
    return "; ".join(f"{name}: {text}" for name, text in named if text)


def _describe_curve(curve: Curve) -> str:
    if isinstance(curve, Isotonic):
        return f"isotonic, {len(curve.logits)} points"
    if not isinstance(curve, Temperature):
        return f"Platt's, slope {curve.slope:.3g}, intercept {curve.intercept:+.3g}"
    if isinstance(curve, Slope):
        return f"slope {curve.slope:.3g}, with a prior"
    if curve.slope == 0:
        return "temperature infinite: on the calibration set the network was no better than the base rate"
    return f"temperature {curve.temperature:.3g}"


def _describe_behind(behind: float, error: float) -> str:
    difference, spread = format_alike(behind, error)
    return f" ({difference}, standard error {spread.removeprefix('+')})"


def _compare(calibrator: Calibrator, horizon: int) -> str:
    """Return the methods' losses in cross-validation and the chosen method; empty if none was compared."""
    table = calibrator.tables[horizon]
    if not table:
        return ""
    lines = (
        f"{line.method} {line.log_loss:.4f}"
        + (_describe_behind(line.behind, line.standard_error) if line.behind else " (least)")
        for line in table
    )
    return (
        f"log loss of {', '.join(lines)}; n {table[0].n:,} over {table[0].sessions:,} sessions; chosen: "
        f"{name_curve(calibrator.curves[horizon])}"
    )


def _describe_threshold(calibrator: Calibrator, horizon: int) -> str:
    abstention = calibrator.abstention
    if abstention.target == 1:
        return _ALWAYS
    threshold, tied = abstention.threshold[horizon], abstention.tied[horizon]
    ties = f"; {format_percent(tied)} of them are tied at the threshold" if tied > 0.01 else ""
    return (
        f"issued at {100 * threshold:.2f} points or more from 50%: {format_percent(abstention.achieved[horizon])} of "
        f"n {abstention.rows[horizon]:,} calibration rows (target {format_percent(abstention.target)}{ties})"
    )


def describe_scope(facts: Mapping[str, Any]) -> str:
    """Return whether there is one model for all symbols or one per symbol, and then how many parameters in all."""
    if "places" not in facts:
        return "pooled: one network for all symbols"
    symbols = len(facts["calibrators"])
    total = symbols * len(facts["seeds"]) * facts["parameters"]
    return f"symbol: an ensemble for each of {symbols} symbols, {total:,} parameters in all"


def describe_agreement(facts: Mapping[str, Any]) -> str:
    """Return how far the members' forecasts agree, and on how many rows that was measured."""
    measured = facts.get("agreement")
    if not measured or len(facts["seeds"]) == 1:
        return "not measured"
    constant = measured["correlation"] is None
    same = "constant forecasts" if constant else f"correlation {measured['correlation']:.2f}"
    return f"{same}, spread of the logits {measured['spread']:.3f} ({measured['rows']:,} calibration rows)"
