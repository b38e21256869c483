from pathlib import Path

import joblib
import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        self.model = joblib.load(Path(args["model_repository"]) / "model.joblib")

    def execute(self, requests):
        inputs = [triton.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        predictions = self.model.predict(np.concatenate(inputs)).reshape(-1, 1)
        ends = np.cumsum([len(rows) for rows in inputs])
        return [
            triton.InferenceResponse([triton.Tensor("predictions", part)]) for part in np.split(predictions, ends[:-1])
        ]
