"""What a runtime is told of how its model is called."""

from __future__ import annotations

from app.core.model import Form, FormName, Model
from app.core.signature import Tensor
from model_container.config import Call


def call_of(model: Model, form: Form) -> Call:
    """An accelerated form has all that it needs in its own file."""
    if form.name is FormName.ACCELERATED:
        return Call()
    said = model.calling
    return Call(
        method=said.method,
        batchable=said.batchable,
        inputs=[_port(one) for one in said.inputs],
        outputs=[_port(one) for one in said.outputs],
        source=said.source,
        strict=said.strict,
    )


def _port(one: Tensor) -> dict[str, object]:
    return {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
