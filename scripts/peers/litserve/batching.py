import os

import joblib
import litserve
import numpy as np


class Model(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load("model.joblib")

    def decode_request(self, request):
        return np.asarray(request["features"][0])

    def batch(self, rows):
        return np.stack(rows)

    def predict(self, features):
        return self.model.predict(features)

    def unbatch(self, predictions):
        return predictions.tolist()

    def encode_response(self, prediction):
        return {"predictions": [prediction]}


if __name__ == "__main__":
    server = litserve.LitServer(Model(max_batch_size=64, batch_timeout=0.002), accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        generate_client_file=False,
        num_api_servers=2,
        log_level="warning",
        access_log=False,
    )
