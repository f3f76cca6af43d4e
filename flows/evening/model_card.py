"""The card of a model: what it is, how it was trained and what its calibrate range came to, in words."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from models.calibration.calibrator import Calibrator, read_calibrator
from models.calibration.curves import Curve, name_curve
from models.calibration.isotonic import Isotonic
from models.calibration.temperature import Temperature
from models.ensembles import custom_ensemble
from pipeline.formatting import format_percent

__all__ = [
    "describe_agreement",
    "describe_calibration",
    "describe_custom_model",
    "describe_engine",
    "describe_model",
    "describe_network",
    "describe_scope",
    "describe_training",
]

_KINDS = {"gru": "GRU", "lstm": "LSTM", "rnn": "Elman RNN"}


def describe_model(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of a model card on what was trained, and from what.

    Args:
        facts: The metadata of a saved model.
    """
    kept, shape = facts["extra"], facts
    if facts.get("family") == custom_ensemble.FAMILY:
        made = {"model": f"{describe_custom_model(kept['settings']['model'])}, code {kept['model_code']}"}
    else:
        shape = facts["network"]
        made = {
            "network": describe_network(shape, facts["parameters"]),
            "trained": describe_training(shape, facts["training"]),
            "scope": describe_scope(facts),
        }
    return {
        **made,
        "members": f"{len(facts['seeds'])}, seeds {facts['seeds'][0]} to {facts['seeds'][-1]}",
        "lookback": f"{shape['lookback']} sessions",
        "features": f"{kept['features']} ({shape['features']} columns)",
    }


def describe_custom_model(model: Mapping[str, Any]) -> str:
    """Return what a model of the user's own is, and what it is made with.

    Args:
        model: The settings of [model].
    """
    options = ", ".join(f"{name} = {value!r}" for name, value in model.get("options", {}).items())
    return f"{model['kind']}{f' with {options}' if options else ''}"


def describe_engine(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return which engine made a network; what makes a model of the user's own is not known here."""
    if facts.get("family") == custom_ensemble.FAMILY:
        return {}
    return {"made with": f"Keras {facts['keras']}, TensorFlow {facts['tensorflow']}"}


def describe_network(network: Mapping[str, Any], parameters: int) -> str:
    """Return what each member is, and how many weights it has."""
    extras = [f"a causal convolution of {network['convolution']}"] if network.get("convolution") else []
    extras += ["attention"] if network.get("attention") else []
    parts = [f"{_KINDS[network['kind']]}, {network['layers']} x {network['units']} units", *extras]
    return f"{', '.join(parts)}, {parameters:,} parameters"


def describe_training(network: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Return from what each member learned."""
    if network.get("mode", "windowed") == "windowed":
        return f"windowed: a window of {network['lookback']} sessions, one label"
    after = network["lookback"] - 1
    return f"sequence: chunks of {training['chunk']} sessions, a label at each after the first {after}"


def describe_calibration(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of a model card on calibration and direction.

    Args:
        facts: The metadata of a saved model, pooled or one a symbol.
    """
    if "calibrators" in facts:
        return _describe_symbols([read_calibrator(kept) for kept in facts["calibrators"]])
    calibrator = read_calibrator(facts["calibrator"])
    ahead = facts["extra"]["settings"]["labels"].get("horizons", [1])
    compared = _by_horizon(ahead, [_compare(calibrator, h) for h in range(len(ahead))])
    return {
        "calibration": _by_horizon(ahead, [_describe_curve(curve) for curve in calibrator.curves]),
        **({"compared by cross-validation": compared} if compared else {}),
        "direction": _by_horizon(ahead, [_describe_threshold(calibrator, h) for h in range(len(ahead))]),
    }


def _describe_symbols(calibrators: list[Calibrator]) -> dict[str, str]:
    """Describe what every symbol has of its own: how many curves of which method, and between which thresholds."""
    methods = Counter(name_curve(curve) for each in calibrators for curve in each.curves)
    thresholds = [100 * value for each in calibrators for value in each.abstention.threshold]
    target = calibrators[0].abstention.target
    return {
        "calibration": f"each symbol by itself: {', '.join(f'{n:,} by {name}' for name, n in methods.most_common())}",
        "direction": "always told, by the side of 50%"
        if target == 1
        else f"told from {min(thresholds):.2f} to {max(thresholds):.2f} points beside 50% on, by each symbol's own "
        f"threshold (target {format_percent(target)})",
    }


def _by_horizon(ahead: list[int], texts: list[str]) -> str:
    if len(ahead) == 1:
        return texts[0]
    return "; ".join(f"{h} ahead: {text}" for h, text in zip(ahead, texts, strict=True) if text)


def _describe_curve(curve: Curve) -> str:
    if isinstance(curve, Isotonic):
        return f"isotonic, {len(curve.logits)} points"
    if not isinstance(curve, Temperature):
        return f"Platt's, slope {curve.slope:.3g}, intercept {curve.intercept:+.3g}"
    if curve.slope == 0:
        return "temperature infinite: the calibrate range gave the network no credit"
    return f"temperature {curve.temperature:.3g}"


def _compare(calibrator: Calibrator, horizon: int) -> str:
    """Say how the methods did on the sessions held out, and which one that makes; nothing if none was compared."""
    table = calibrator.tables[horizon]
    if not table:
        return ""
    lines = (
        f"{line.method} {line.log_loss:.4f}"
        + (f" ({line.behind:+.4f}, standard error {line.standard_error:.4f})" if line.behind else " (least)")
        for line in table
    )
    return (
        f"log loss of {', '.join(lines)}; n {table[0].n:,} over {table[0].sessions:,} sessions; taken: "
        f"{name_curve(calibrator.curves[horizon])}"
    )


def _describe_threshold(calibrator: Calibrator, horizon: int) -> str:
    abstention = calibrator.abstention
    if abstention.target == 1:
        return "always told, by the side of 50%"
    threshold, tied = abstention.threshold[horizon], abstention.tied[horizon]
    alike = f"; {format_percent(tied)} of them are alike where the target falls" if tied > 0.01 else ""
    return (
        f"told from {100 * threshold:.2f} points beside 50% on, as {format_percent(abstention.achieved[horizon])} of "
        f"n {abstention.rows[horizon]:,} calibrate rows are (target {format_percent(abstention.target)}{alike})"
    )


def describe_scope(facts: Mapping[str, Any]) -> str:
    """Return whether there is one model for all symbols, and how many weights in all."""
    if "places" not in facts:
        return "pooled: one network for all symbols"
    symbols = len(facts["calibrators"])
    total = symbols * len(facts["seeds"]) * facts["parameters"]
    return f"symbol: an ensemble for each of {symbols} symbols, {total:,} parameters in all"


def describe_agreement(facts: Mapping[str, Any]) -> str:
    """Return how far the members say the same, on how many rows."""
    found = facts.get("agreement")
    if not found or len(facts["seeds"]) == 1:
        return "not measured"
    same = "they do not move" if found["correlation"] is None else f"correlation {found['correlation']:.2f}"
    return f"{same}, spread of the logits {found['spread']:.3f} ({found['rows']:,} calibration rows)"
