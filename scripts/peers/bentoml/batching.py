import bentoml
import joblib
import numpy as np


@bentoml.service(workers=2, metrics={"enabled": False})
class Model:
    def __init__(self) -> None:
        self.model = joblib.load("model.joblib")

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.model.predict(features)
