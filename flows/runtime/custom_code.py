"""The user's own code in a run: which it is, whether the audit has passed it, whether a model was made with it."""

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

_SEAMS = {"features": custom_features.EXTENSION_POINT, "model": custom_model.EXTENSION_POINT}


def list_code(run: Run) -> dict[str, str]:
    """Return the digest of each piece of the user's own code that the settings name, by its place."""
    config, code = run.config, {}
    if config.universe.has_custom_source:
        code[config.universe.source] = digest_code(config.universe.source, run.base, custom.EXTENSION_POINT)
    if config.features.is_custom:
        code[config.features.set] = digest_code(
            config.features.set, run.base, custom_features.EXTENSION_POINT
        )
    if config.model.is_custom:
        code[config.model.kind] = digest_code(config.model.kind, run.base, custom_model.EXTENSION_POINT)
    return code


def digest_audited(run: Run) -> str:
    """Return the digest of the settings that an audit stands for: another member or hour asks for no new one."""
    source = run.config.resolved()["universe"]
    return digest(
        {
            "procedure": digest_procedure(run.config),
            **{key: source[key] for key in ("source", "source_options")},
        }
    )


def describe_audit_gap(run: Run, code: Mapping[str, str]) -> str:
    """Return why the code may not run live yet; empty where a kept audit has passed it with these settings.

    Raises:
        StoreError: the kept audit is damaged.
    """
    named, audit = " and ".join(code), load_audit(run.workspace.audit(run.name))
    if audit is None:
        return f"{named}: code of your own that no audit has looked at"
    if audit.code != code:
        return f"{named}: code of your own that has changed since the audit of {audit.when:%Y-%m-%d}"
    if audit.procedure != digest_audited(run):
        return f"{named}: the settings have changed since the audit of {audit.when:%Y-%m-%d}"
    if not audit.is_passed:
        failed = next(check for check in audit.checks if check.status == "failed")
        return f"{named} failed the audit of {audit.when:%Y-%m-%d}: {failed.name}: {failed.evidence}"
    return ""


def describe_missing_audit(run: Run) -> str:
    """Return a warning where code of the user's own has made what is told and no audit stands behind it; else empty."""
    code = list_code(run)
    try:
        lack = describe_audit_gap(run, code) if code else ""
    except StoreError as error:
        lack = f"{' and '.join(code)}: {error.what}"
    return (
        lack and f"Not audited, so these figures may know the future: {lack}. `nextday audit` looks for it."
    )


def require_audit(run: Run) -> None:
    """Refuse to forecast live with code of the user's own that has not passed the audit.

    Raises:
        InputError: it has not.
        StoreError: the kept audit is damaged.
    """
    if run.is_historical or run.is_simulated:
        return
    code = list_code(run)
    if code and (lack := describe_audit_gap(run, code)):
        raise InputError(
            f"No live forecast: {lack}",
            where=str(run.workspace.audit(run.name)),
            fix="`nextday audit` looks at it; once it has passed, run this again",
        )


def digest_code_of(run: Run) -> dict[str, str]:
    """Return digests of the user's own code that makes a model; nothing where all of it is ours."""
    named = {"features": run.config.features.set, "model": run.config.model.kind}
    return {
        f"{what}_code": digest_code(place, run.base, _SEAMS[what])
        for what, place in named.items()
        if is_custom_code(place)
    }


def note_code(run: Run) -> dict[str, str]:
    """Return what a model keeps of the user's own code: its digests, and that of the settings to be audited."""
    code = digest_code_of(run)
    return code | {"to_be_audited": digest_audited(run)} if code else {}


def find_changed(run: Run, facts: Mapping[str, Any]) -> str:
    """Return what code of the user's own a model was made with that is another one now, or gone; empty: none.

    Args:
        run: The run.
        facts: What the model keeps beside its weights.
    """
    for what, seam in _SEAMS.items():
        if f"{what}_code" not in facts:
            continue
        place = str(facts[what])
        try:
            is_same = digest_code(place, run.base, seam) == facts[f"{what}_code"]
        except ConfigError:
            is_same = False
        if not is_same:
            return f"{place} (code {facts[f'{what}_code']})"
    return ""


def require_named_code(run: Run, facts: Mapping[str, Any], directory: Path) -> None:
    """Refuse to forecast live with a model made with the user's own code by other settings: nobody audits them.

    Args:
        run: The run.
        facts: What the model keeps beside its weights.
        directory: The model's.

    Raises:
        InputError: the settings do not name that code, or are others of those that an audit stands for.
    """
    if run.is_historical or run.is_simulated:
        return
    named = (run.config.features.set, run.config.model.kind)
    for what in _SEAMS:
        if f"{what}_code" in facts and facts[what] not in named:
            raise InputError(
                f"No live forecast: the champion was made with {facts[what]}, which the settings do not name any more",
                where=str(directory),
                fix="`nextday retrain` makes one with these settings",
            )
    if facts.get("to_be_audited", digest_audited(run)) != digest_audited(run):
        raise InputError(
            "No live forecast: the champion was made with code of your own by other settings than the audited ones",
            where=str(directory),
            fix="`nextday retrain` makes one with these settings",
        )


def require_same_code(run: Run, facts: Mapping[str, Any], directory: Path) -> None:
    """Refuse to ask a model that was made with other code of the user's own than there is now.

    Args:
        run: The run.
        facts: What the model keeps beside its weights.
        directory: The model's.

    Raises:
        NextdayError: the code has changed.
    """
    if changed := find_changed(run, facts):
        raise NextdayError(
            f"The model was made with {changed}, and that file has changed since",
            where=str(directory),
            fix="put that code back, or train with the new one: `nextday audit`, then `nextday retrain`",
        )
