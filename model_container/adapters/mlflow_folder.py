"""MLflow model folders that only MLflow itself can load: any flavor, through its `python_function`.

The inputs declared in the folder are checked twice: by PRISM, which names the value at fault, and by MLflow.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Union

from model_container.adapters.base import Inputs, Outputs
from model_container.adapters.declared import declared_columns
from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.pickle import load_code
from model_container.adapters.python_folder import TypedPython
from model_container.contract.config import PredictContract, RuntimeConfig


def load_mlflow(config: RuntimeConfig) -> Union[TableOfMlflow, TensorsOfMlflow]:
    # Without these, MLflow sends telemetry and looks for a tracking server.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_TRACKING_URI"] = "file:///tmp/mlruns"
    load_code(config.code)
    try:
        from mlflow.pyfunc import load_model  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ModuleNotFoundError(f"MLflow cannot be imported here: {error}") from error
    model = load_model(config.artifact)
    call = PredictContract(
        batchable=bool(config.call.batchable),
        inputs=config.call.inputs,
        outputs=config.call.outputs,
        source=config.call.source,
        strict=False,
    )
    is_table = not call.inputs or bool(declared_columns(call)[0])
    return TableOfMlflow(model, call) if is_table else TensorsOfMlflow(_Plain(model), call)


class _Plain:
    """Wrapper that exposes only `predict`, so that the model's other attributes are not mistaken for an estimator's."""

    def __init__(self, model: Any) -> None:
        self.predict = model.predict


class TableOfMlflow(EstimatorAdapter):
    """Model whose inputs are columns, or are not declared."""

    def __init__(self, model: Any, call: PredictContract) -> None:
        super().__init__(_Plain(model), call, as_frames=True)

    def predict(self, inputs: Inputs, probabilities: bool) -> Outputs:
        """Predict. An answer without one item per row belongs to the request as a whole."""
        outputs = super().predict(inputs, probabilities)
        lengths = [len(value) if isinstance(value, list) or value.ndim else -1 for value in outputs.values.values()]
        by_row = all(length == inputs.rows for length in lengths)
        return outputs if by_row or self.joinable else outputs._replace(by_row=False)


class TensorsOfMlflow(TypedPython):
    """Model whose input is one array, or several by name."""

    def signature(self) -> Dict[str, Any]:
        return {**super().signature(), "kind": "tensors"}
