"""Records of what a model's folder says of the model, as its owner laid it out."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from app.core.audio import AudioSpec
from app.core.image import ImageSpec
from app.core.inspection import Format
from app.core.model import PredictContract
from app.core.model_config import FILE_NAME, ModelConfig, TensorSpec

FOLDER: Final = "model"
"""The folder, below that of the artifact, for the files of a model that came as a folder or an archive."""

MLMODEL: Final = "MLmodel"

CODE_LIMIT_BYTES: Final = 4 << 20
"""Largest Python file that is read."""


class MlflowReading(Struct, frozen=True):
    """The contents of an MLmodel file and of the files that it names.

    file: loaded without MLflow, "" where MLflow is needed. flavor: the flavor that names this file.
    requirements: what is installed. left_out: its requirements that are not installed. code: folder of the owner's
    Python files below the model's, "" for none. method: the one that answers. inputs, outputs: of the signature, none
    where PRISM has no words for them.
    """

    file: str
    flavor: str
    requirements: str
    requirements_from: str
    left_out: tuple[str, ...] = ()
    python_version: str = ""
    code: str = ""
    method: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    sample: Any = None
    version: str = ""


class Contents(Struct, frozen=True):
    """A folder as its owner laid it out.

    file: the model's file, below the folder; "" where the folder as a whole is the model. format: that of such a
    folder, None where the file's own content says it. requirements, requirements_from: the text of a requirements
    file, and its name. sample: a request that the model answers. mlflow: what MLmodel says.
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
    def calling(self) -> PredictContract:
        """The way in which the model is called: as model_config.yaml says, else as MLflow wrote down."""
        config, mlflow = self.config, self.mlflow
        by_hand = bool(config.inputs) or mlflow is None
        inputs = config.inputs if by_hand or mlflow is None else mlflow.inputs
        outputs = config.outputs or (mlflow.outputs if mlflow is not None else ())
        return PredictContract(
            method=config.method or (mlflow.method if mlflow is not None else ""),
            batchable=config.batchable,
            inputs=tuple(port.tensor() for port in inputs),
            outputs=tuple(port.tensor() for port in outputs),
            image=config.input if isinstance(config.input, ImageSpec) else None,
            audio=config.input if isinstance(config.input, AudioSpec) else None,
            source=FILE_NAME if by_hand else MLMODEL,
            strict=by_hand,
        )
