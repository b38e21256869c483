"""What a model's folder says of the model, as its owner laid it out."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from app.core.inspection import Format
from app.core.model import Calling
from app.core.model_config import FILE_NAME, ModelConfig, Port

FOLDER: Final = "model"
"""Below the artifact's folder, where the files of one that came as a folder or an archive lie."""

MLMODEL: Final = "MLmodel"

CODE_LIMIT_BYTES: Final = 4 << 20
"""Of one Python file."""


class MlflowReading(Struct, frozen=True):
    """file: to be loaded without MLflow, "" where it is needed. flavor: which one. requirements: what is installed.

    left_out: of its requirements, what is not. code: folder of the owner's Python files below it, "" for none.
    method: that answers. inputs, outputs: of its signature, none where PRISM has no words for them.
    """

    file: str
    flavor: str
    requirements: str
    requirements_from: str
    left_out: tuple[str, ...] = ()
    python_version: str = ""
    code: str = ""
    method: str = ""
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    sample: Any = None
    version: str = ""


class Contents(Struct, frozen=True):
    """A folder as its owner laid it out.

    file: of the model, below the folder; "" where the folder as a whole is the model. format: of such a folder, None
    where the file's own content says it.
    requirements, requirements_from: the text of a requirements file, and its name. sample: a request that it answers.
    mlflow: what MLmodel says.
    """

    config: ModelConfig
    file: str = ""
    format: Format | None = None
    requirements: str = ""
    requirements_from: str = ""
    python_version: str = ""
    sample: Any = None
    mlflow: MlflowReading | None = None

    @property
    def calling(self) -> Calling:
        """What the owner wrote in model_config.yaml, else what MLflow wrote down."""
        config, mlflow = self.config, self.mlflow
        by_hand = bool(config.inputs) or mlflow is None
        inputs = config.inputs if by_hand or mlflow is None else mlflow.inputs
        outputs = config.outputs or (mlflow.outputs if mlflow is not None else ())
        return Calling(
            method=config.method or (mlflow.method if mlflow is not None else ""),
            batchable=config.batchable,
            inputs=tuple(port.tensor() for port in inputs),
            outputs=tuple(port.tensor() for port in outputs),
            source=FILE_NAME if by_hand else MLMODEL,
            strict=by_hand,
        )
