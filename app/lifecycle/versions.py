"""The versions of one name: which one a rollback returns to, and which two are compared."""

from __future__ import annotations

import difflib
from typing import Any

from app.core.foreign_json import ForeignJsonError, read_json
from app.core.model import ModelVersion, Status
from app.errors import BadInput, Conflict, NotFound
from app.lifecycle.state import DeploymentState

METADATA_LIMIT_BYTES = 64 << 10


def versions_of(name: str, state: DeploymentState) -> tuple[ModelVersion, ...]:
    """Return all versions of a name, the oldest first; any reference stands for its name. Raises NotFound."""
    return state.versions(state.find(name).name)


def version_named(name: str, version: str, state: DeploymentState) -> ModelVersion:
    """Return a version of a name by its number. Raises NotFound, which names the nearest one."""
    known = {model.version: model for model in versions_of(name, state)}
    if version not in known:
        near = difflib.get_close_matches(version, known, n=1)
        listed = ", ".join(list(known)[-10:])
        raise NotFound(
            f"`{name[:200]}` has no version {version[:50]}.",
            hint=f"Did you mean {near[0]}? Its versions are {listed}." if near else f"Its versions are {listed}.",
            ref=f"{name[:200]}@{version[:50]}",
        )
    return known[version]


def version_to_restore(ref: str, to: str, state: DeploymentState) -> ModelVersion:
    """Return the version that a rollback makes live.

    ref: a name, for the newest version that was live before the current one; or any other reference, for that one.
    to: number of the version, "" to have it chosen. A version that is unhealthy, never had the requests for its name, or
    was rolled back is none to return to. Raises NotFound, and Conflict if no version was live before.
    """
    current = state.find(ref)
    if to:
        return version_named(current.name, to, state)
    if ref != current.name:
        return current
    older = [
        model
        for model in state.versions(current.name)
        if model.identity.created_at < current.identity.created_at
        and state.has_deployment(model.model_id)
        and (deployment := state.deployment(model.model_id)).live_at
        and deployment.status is not Status.UNHEALTHY
        and not deployment.passed_over
    ]
    if not older:
        raise Conflict(
            f"`{current.name}` has no version before {current.version} that was live, so there is nothing to go back to.",
            hint=f"`prism versions {current.name}` lists its versions; `prism rollback {current.name}@VERSION` makes one "
            "of them live.",
        )
    return older[-1]


def versions_to_compare(
    name: str, before: str, after: str, state: DeploymentState
) -> tuple[ModelVersion, ModelVersion]:
    """Return the two versions of a name that a comparison is about.

    after: "" for the version that the name leads to. before: "" for its parent, else the one recorded before it, else the
    one after it. Raises NotFound, and Conflict for a model with a single version.
    """
    second = version_named(name, after, state) if after else state.find(name)
    if before:
        return version_named(name, before, state), second
    versions = state.versions(second.name)
    place = versions.index(second)
    parent = [model for model in versions if model.version == second.identity.parent]
    near = (*parent, *reversed(versions[:place]), *versions[place + 1 :])
    if not near:
        raise Conflict(
            f"`{second.name}` has one version only, {second.version}, so there is none to compare it with.",
            hint="Register another one, or name two versions.",
        )
    return near[0], second


def metadata_of(text: str) -> dict[str, Any]:
    """Parse the metadata of a form; {} for "". Raises BadInput unless it is a JSON object of at most 64 KiB."""
    if not text:
        return {}
    hint = 'Give an object, for example {"auc": 0.94, "trained_on": "2026-Q1"}.'
    if len(text.encode()) > METADATA_LIMIT_BYTES:
        raise BadInput("The metadata is over 64 KiB.", hint="Keep data elsewhere and refer to it.", field="metadata")
    try:
        metadata = read_json(text)
    except ForeignJsonError as error:
        raise BadInput(f"The metadata is not JSON: {error}.", hint=hint, field="metadata") from error
    if not isinstance(metadata, dict):
        raise BadInput(f"The metadata is a JSON {_kind(metadata)}, not an object.", hint=hint, field="metadata")
    return metadata


def parent_of(text: str, name: str, state: DeploymentState) -> str:
    """Return the number of the version that a new one was made from: as given, else the one that the name leads to.

    Returns "" for the first version of a name. Raises NotFound for a version that the name does not have, BadInput for
    one of another name.
    """
    if not state.versions(name):
        if text:
            raise BadInput(
                f"`{name}` has no version yet, so `{text[:100]}` cannot be its parent.",
                hint="Leave `parent` out for the first version.",
                field="parent",
            )
        return ""
    if not text:
        return state.find(name).version
    given, at, version = text.rpartition("@")
    if at and given != name:
        raise BadInput(
            f"The parent `{text[:200]}` is no version of `{name}`.",
            hint=f"Give one such as {name}@1.0.0.",
            field="parent",
        )
    return version_named(name, version, state).version


def _kind(value: Any) -> str:
    return {list: "array", str: "text", bool: "truth value", type(None): "null"}.get(type(value), "number")
