from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = Path(args["model_repository"]) / "model.onnx"
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        inputs = [triton.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        (predictions,) = self.session.run(None, {"features": np.concatenate(inputs)})
        ends = np.cumsum([len(rows) for rows in inputs])
        return [
            triton.InferenceResponse([triton.Tensor("predictions", part)]) for part in np.split(predictions, ends[:-1])
        ]
