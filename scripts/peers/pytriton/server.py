import os
import sys

import joblib
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

model = joblib.load("model.joblib")
columns = model.n_features_in_
configurations = {
    "default": ModelConfig(),
    "batching": ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
}


@batch
def predict(features: np.ndarray) -> list[np.ndarray]:
    return [model.predict(features).reshape(-1, 1)]


if __name__ == "__main__":
    ports = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["HTTP_PORT"]),
        grpc_port=int(os.environ["GRPC_PORT"]),
        metrics_port=int(os.environ["METRICS_PORT"]),
    )
    with Triton(config=ports) as triton:
        triton.bind(
            model_name="model",
            infer_func=predict,
            inputs=[Tensor(name="features", dtype=np.float64, shape=(columns,))],
            outputs=[Tensor(name="predictions", dtype=np.float64, shape=(1,))],
            config=configurations[sys.argv[1]],
        )
        triton.serve()
