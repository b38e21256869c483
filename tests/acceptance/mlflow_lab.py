"""Makes MLflow folders, and the ZIP files to upload them in."""

from __future__ import annotations

import zipfile
from pathlib import Path


def packed(folder: Path) -> Path:
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


PYTHON_MODEL = """
import mlflow
from mlflow.models import set_model

class Triple(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.factor = float(open(context.artifacts["factor"]).read())

    def predict(self, context, model_input, params=None):
        return model_input["a"] * self.factor + model_input["b"].str.len()

set_model(Triple())
"""
