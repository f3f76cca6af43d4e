"""Custom code in a run: its digests, whether it passed the audit, and whether a model was made with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.runtime.context import Run
from pipeline.audit.record import load_audit
from pipeline.config import digest
from pipeline.errors import ConfigError, InputError, NextdayError, StoreError
from pipeline.features import custom_features
from pipeline.forecasting import custom_model
from pipeline.plugins import digest_code, is_custom_code
from pipeline.sources import custom
from pipeline.tracking.trials import digest_procedure

__all__ = [
    "describe_audit_gap",
    "describe_missing_audit",
    "digest_audited",
    "digest_code_of",
    "find_changed",
    "list_code",
    "note_code",
    "require_audit",
    "require_named_code",
    "require_same_code",
]

_EXTENSION_POINTS = {"features": custom_features.EXTENSION_POINT, "model": custom_model.EXTENSION_POINT}


def list_code(run: Run) -> dict[str, str]:
    """Return the digest of each piece of custom code in the settings, by its location."""
    config, code = run.config, {}
    if config.universe.has_custom_source:
        code[config.universe.source] = digest_code(config.universe.source, run.base, custom.EXTENSION_POINT)
    if config.context.has_custom_source:
        code[config.context.source] = digest_code(config.context.source, run.base, custom.EXTENSION_POINT)
    if config.features.is_custom:
        code[config.features.set] = digest_code(
            config.features.set, run.base, custom_features.EXTENSION_POINT
        )
    if config.model.is_custom:
        code[config.model.kind] = digest_code(config.model.kind, run.base, custom_model.EXTENSION_POINT)
    return code


def digest_audited(run: Run) -> str:
    """Return the digest of the settings that an audit covers: other members or hours need no new audit."""
    source = run.config.resolved()["universe"]
    return digest(
        {
            "procedure": digest_procedure(run.config),
            **{key: source[key] for key in ("source", "source_options")},
        }
    )


def describe_audit_gap(run: Run, code: Mapping[str, str]) -> str:
    """Return why the code may not run live yet; empty if it passed an audit with these settings.

    Raises:
        StoreError: the saved audit is damaged.
    """
    named, audit = " and ".join(code), load_audit(run.workspace.audit(run.name))
    if audit is None:
        return f"{named}: custom code that was never audited"
    if audit.code != code:
        return f"{named}: custom code that has changed since the audit of {audit.when:%Y-%m-%d}"
    if audit.procedure != digest_audited(run):
        return f"{named}: the settings have changed since the audit of {audit.when:%Y-%m-%d}"
    if not audit.is_passed:
        failed = next(check for check in audit.checks if check.status == "failed")
        return f"{named} failed the audit of {audit.when:%Y-%m-%d}: {failed.name}: {failed.evidence}"
    return ""


def describe_missing_audit(run: Run) -> str:
    """Return a warning where results come from custom code that has not passed an audit; else empty."""
    code = list_code(run)
    try:
        gap = describe_audit_gap(run, code) if code else ""
    except StoreError as error:
        gap = f"{' and '.join(code)}: {error.what}"
    return (
        gap and f"Not audited, so these figures may use future information: {gap}. `nextday audit` checks it."
    )


def require_audit(run: Run) -> None:
    """Refuse to forecast live with custom code that has not passed the audit.

    Raises:
        InputError: it has not passed.
        StoreError: the saved audit is damaged.
    """
    if run.is_historical or run.is_simulated:
        return
    code = list_code(run)
    if code and (gap := describe_audit_gap(run, code)):
        raise InputError(
            f"No live forecast: {gap}",
            where=str(run.workspace.audit(run.name)),
            fix="`nextday audit`; once it has passed, run this again",
        )


def digest_code_of(run: Run) -> dict[str, str]:
    """Return the digests of the custom code that makes a model; empty if there is none."""
    named = {"features": run.config.features.set, "model": run.config.model.kind}
    return {
        f"{what}_code": digest_code(location, run.base, _EXTENSION_POINTS[what])
        for what, location in named.items()
        if is_custom_code(location)
    }


def note_code(run: Run) -> dict[str, str]:
    """Return what model.json stores of the custom code: its digests, and that of the settings to be audited."""
    code = digest_code_of(run)
    return code | {"to_be_audited": digest_audited(run)} if code else {}


def find_changed(run: Run, facts: Mapping[str, Any]) -> str:
    """Return the custom code of a model that has changed or is missing; empty if none has.

    Args:
        run: The run.
        facts: The metadata of the model (`extra` of model.json).
    """
    for what, extension_point in _EXTENSION_POINTS.items():
        if f"{what}_code" not in facts:
            continue
        location = str(facts[what])
        try:
            is_same = digest_code(location, run.base, extension_point) == facts[f"{what}_code"]
        except ConfigError:
            is_same = False
        if not is_same:
            return f"{location} (code {facts[f'{what}_code']})"
    return ""


def require_named_code(run: Run, facts: Mapping[str, Any], directory: Path) -> None:
    """Refuse to forecast live with a model made with custom code under other settings, which no audit covers.

    Args:
        run: The run.
        facts: The metadata of the model (`extra` of model.json).
        directory: The model's.

    Raises:
        InputError: the settings do not name that code, or those that an audit covers are different.
    """
    if run.is_historical or run.is_simulated:
        return
    named = (run.config.features.set, run.config.model.kind)
    for what in _EXTENSION_POINTS:
        if f"{what}_code" in facts and facts[what] not in named:
            raise InputError(
                f"No live forecast: the champion was made with {facts[what]}, which the settings no longer name",
                where=str(directory),
                fix="`nextday retrain` trains one with these settings",
            )
    if facts.get("to_be_audited", digest_audited(run)) != digest_audited(run):
        raise InputError(
            "No live forecast: the champion was made with custom code under other settings than the audited ones",
            where=str(directory),
            fix="`nextday retrain` trains one with these settings",
        )


def require_same_code(run: Run, facts: Mapping[str, Any], directory: Path) -> None:
    """Refuse to use a model whose custom code has changed since it was made.

    Args:
        run: The run.
        facts: The metadata of the model (`extra` of model.json).
        directory: The model's.

    Raises:
        NextdayError: the code has changed.
    """
    if changed := find_changed(run, facts):
        raise NextdayError(
            f"The model was made with {changed}, and that file has changed since",
            where=str(directory),
            fix="restore that code, or train with the new one: `nextday audit`, then `nextday retrain`",
        )
