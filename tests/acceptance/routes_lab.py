"""The routes that the fuzz tests send requests to."""

from __future__ import annotations

PREDICT = {
    "/models/{ref}/predict",
    "/models/{ref}/invocations",
    "/invocations",
    "/predict/{model_name}",
    "/predict/{model_name}/batch",
    "/predict_batched/{model_name}",
    "/v1/models/{name}:predict",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
}
