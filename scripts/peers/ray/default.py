import os

import joblib
from ray import serve
from starlette.requests import Request


@serve.deployment
class Model:
    def __init__(self, path: str) -> None:
        self.model = joblib.load(path)

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        features = (await request.json())["features"]
        return {"predictions": self.model.predict(features).tolist()}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Model.bind(os.path.abspath("model.joblib")), route_prefix="/predict", blocking=True)
