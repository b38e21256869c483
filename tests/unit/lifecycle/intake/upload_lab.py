"""Forms of uploads, as a request brings them."""

from __future__ import annotations

import secrets

from app.core.model import Artifact
from app.lifecycle.intake.receive import Form
from tests.unit.lifecycle.house_lab import House

HARMLESS = b"csklearn.linear_model._base\nLinearRegression\n)\x81."


def form(
    home: House, content: bytes | None = None, code: dict[str, str] | None = None, name: str = "model.pkl", **texts: str
) -> Form:
    """Return the form as `receive` leaves it: its files in their own folder."""
    model_id = secrets.token_hex(6)
    folder = home.state.folder(model_id)
    for below in ("artifact", "code"):
        (folder / below).mkdir(parents=True)
    if content is not None:
        (folder / "artifact" / name).write_bytes(content)
    for module, text in (code or {}).items():
        (folder / "code" / module).write_text(text)
    artifact = Artifact(name, "0" * 64, len(content)) if content is not None else None
    return Form(model_id, folder, texts, artifact, tuple(code or ()))
