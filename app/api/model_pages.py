"""The list of models in pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from msgspec import Struct

from app.core.model import ModelVersion
from app.core.version_difference import FRAMEWORKS, framework_of
from app.errors import BadInput


class ModelPage(Struct, frozen=True):
    """One page. next_cursor: where the next one begins, "" on the last one."""

    models: Sequence[ModelVersion]
    next_cursor: str


def page(models: Sequence[ModelVersion], framework: str, limit: int | None, cursor: str) -> ModelPage:
    """Return the page that begins after `cursor`, which stays valid if models come or go.

    models: in the order of their creation. framework: only these, "" for all. Raises BadInput for an unknown framework or
    cursor.
    """
    if framework and framework not in FRAMEWORKS:
        raise BadInput(
            f"There is no framework `{framework[:50]}`.",
            hint=f"Frameworks: {', '.join(FRAMEWORKS)}.",
            field="framework",
        )
    after = _place(cursor)
    rest = [
        model for model in models if _key(model) > after and framework in ("", framework_of(model.findings.inspection))
    ]
    shown = rest if limit is None else rest[:limit]
    return ModelPage(shown, _cursor(shown[-1]) if len(shown) < len(rest) else "")


def _key(model: ModelVersion) -> tuple[str, str]:
    return model.identity.created_at, model.model_id


def _cursor(model: ModelVersion) -> str:
    return base64.urlsafe_b64encode(" ".join(_key(model)).encode()).decode()


def _place(cursor: str) -> tuple[str, str]:
    try:
        created_at, _, model_id = base64.b64decode(cursor, b"-_", validate=True).decode().partition(" ")
    except (binascii.Error, ValueError) as error:
        hint = "Send the `next_cursor` of the page before as it is, or leave it out for the first page."
        raise BadInput(f"The cursor `{cursor[:50]}` is not valid.", hint=hint, field="cursor") from error
    return created_at, model_id
