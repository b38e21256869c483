import bentoml
import joblib


@bentoml.service
class Model:
    def __init__(self) -> None:
        self.model = joblib.load("model.joblib")

    @bentoml.api
    def predict(self, features: list[list[float]]) -> list[float]:
        return self.model.predict(features).tolist()
