import os

import joblib
import numpy as np
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256)
class Model:
    def __init__(self, path: str) -> None:
        self.model = joblib.load(path)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def predict(self, rows: list[list[float]]) -> list[float]:
        return self.model.predict(np.asarray(rows)).tolist()

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        features = (await request.json())["features"]
        return {"predictions": [await self.predict(features[0])]}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Model.bind(os.path.abspath("model.joblib")), route_prefix="/predict", blocking=True)
