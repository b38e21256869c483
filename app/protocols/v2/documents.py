"""The JSON documents of the Open Inference Protocol V2: a model's metadata, statistics and configuration."""

from __future__ import annotations

import time
from collections.abc import Iterable
from time import monotonic
from typing import Any

from app.core.inspection import Format
from app.core.model import Deployment, ModelVersion
from app.core.route_table import is_serving
from app.core.signature import Signature, Tensor
from app.dispatch.limits import QueueSettings
from app.errors import Unavailable
from app.lifecycle.deployments import IN_PROGRESS
from app.observe.tally import ModelCounters
from app.version import NAME, VERSION

PUBLIC_EXTENSIONS = ("binary_tensor_data", "parameters")
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")

ANY = "ANY"
"""The datatype of a tensor whose datatype the artifact does not give; see model_container/bodies/values.py."""

_PLATFORMS = {
    Format.ONNX: "onnxruntime_onnx",
    Format.ACCELERATED: "onnxruntime_onnx",
    Format.TORCHSCRIPT: "pytorch_torchscript",
    Format.TORCH_EXPORT: "pytorch_export",
    Format.TORCH: "pytorch_state_dict",
    Format.SKOPS: "sklearn_skops",
}
_ROWS_KEYS = ("features", "input", "inputs", "instances")


def server_document(extensions: Iterable[str]) -> dict[str, Any]:
    return {"name": NAME, "version": VERSION, "extensions": list(extensions)}


def model_document(model: ModelVersion, versions: Iterable[str]) -> dict[str, Any]:
    """Return a model's metadata. Raises Unavailable while the model's inputs are unknown.

    versions: those that can be requested, oldest first.
    """
    signature = known_signature(model)
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": platform(model),
        "inputs": inputs(signature, model.findings.sample),
        "outputs": [tensor_document(tensor, tensor.datatype) for tensor in signature.outputs],
    }


def known_signature(model: ModelVersion) -> Signature:
    if model.findings.signature is None:
        raise Unavailable(f"The inputs of `{model.ref}` are known once it has been started.")
    return model.findings.signature


def platform(model: ModelVersion) -> str:
    kind = model.findings.inspection.format if model.findings.inspection else Format.PICKLE
    return _PLATFORMS.get(kind, f"python_{kind.value}")


def inputs(signature: Signature, sample: Any) -> list[dict[str, Any]]:
    return [
        tensor_document(
            tensor, told_by_sample(tensor.name, index, sample) if tensor.datatype == ANY else tensor.datatype
        )
        for index, tensor in enumerate(signature.inputs)
    ]


def tensor_document(tensor: Tensor, datatype: str) -> dict[str, Any]:
    datatype = "BYTES" if datatype == "DATETIME" else datatype  # the protocol has texts, and no dates
    return {"name": tensor.name, "datatype": datatype, "shape": list(tensor.shape)}


def told_by_sample(name: str, position: int, sample: Any) -> str:
    """Guess the datatype of an input for which the artifact gives none, from a request that the model answered."""
    value = example(name, position, sample)
    return "BYTES" if isinstance(value, str) else "BOOL" if isinstance(value, bool) else "FP64"


def example(name: str, position: int, sample: Any) -> Any:
    """Return one value of that input in a request of a native dialect; None if it is not plainly there."""
    if isinstance(sample, dict) and name in sample:
        return first(sample[name])
    key = next((key for key in _ROWS_KEYS if isinstance(sample, dict) and key in sample), None)
    rows = sample[key] if key else sample
    if isinstance(rows, dict):
        return first(rows.get(name))
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], list) else rows
    return row[position] if isinstance(row, list) and position < len(row) else None


def first(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return value


def config_document(model: ModelVersion, deployment: Deployment, flow: QueueSettings) -> dict[str, Any]:
    """Return the configuration in the terms of Triton's model configuration.

    flow: the settings' bounds, where the owner set none.

    max_batch_size is 0: shapes include their first dimension, and requests are batched whatever it says.
    """
    signature = known_signature(model)
    metadata = model_document(model, ())
    own = deployment.bounds
    window_ms = flow.window_seconds * 1000 if own.batch_window_ms is None else own.batch_window_ms
    optional = {tensor.name for tensor in signature.inputs if tensor.optional}
    return {
        "name": model.name,
        "platform": metadata["platform"],
        "backend": "prism",
        "version_policy": {"specific": {"versions": [model.version]}},
        "max_batch_size": 0,
        "input": [{**port(tensor), "optional": tensor["name"] in optional} for tensor in metadata["inputs"]],
        "output": [port(tensor) for tensor in metadata["outputs"]],
        "instance_group": [
            {
                "name": model.ref,
                "kind": "KIND_GPU" if model.spec.execution.gpus else "KIND_CPU",
                "count": len(deployment.replicas),
            }
        ],
        "dynamic_batching": {
            "preferred_batch_size": [own.max_batch_size or flow.max_batch_size],
            "max_queue_delay_microseconds": round(window_ms * 1000),
        },
        "default_model_filename": model.spec.artifact.filename,
        "parameters": {},
    }


def port(tensor: dict[str, Any]) -> dict[str, Any]:
    datatype = "STRING" if tensor["datatype"] == "BYTES" else tensor["datatype"]
    return {"name": tensor["name"], "data_type": f"TYPE_{datatype}", "dims": tensor["shape"]}


def index_entry(deployment: Deployment) -> dict[str, str]:
    """Return a model's entry in the repository index.

    state: READY, LOADING or UNAVAILABLE. reason: why it is so, "" if it is READY.
    """
    names = {"name": deployment.name, "version": deployment.version}
    if is_serving(deployment):
        return {**names, "state": "READY", "reason": ""}
    error = deployment.error or {}
    reason = str(error.get("detail") or deployment.status.value)
    return {**names, "state": "LOADING" if deployment.status in IN_PROGRESS else "UNAVAILABLE", "reason": reason}


def stats_document(model: ModelVersion, tally: ModelCounters) -> dict[str, Any]:
    """Return a model's statistics.

    Requests are counted, not their rows. compute_input holds the time of decoding and encoding.
    """
    answered = sum(tally.statuses.values())
    good = tally.statuses.get(200, 0)
    batches = sum(tally.batch_size.counts)
    mean_ns = tally.latency.total * 1e9 / answered if answered else 0.0
    queue_seconds = max(0.0, tally.latency.total - tally.away_seconds)
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": since_epoch_ms(tally.last_at),
        "inference_count": good,
        "execution_count": batches,
        "inference_stats": {
            "success": duration(good, good * mean_ns),
            "fail": duration(answered - good, (answered - good) * mean_ns),
            "queue": duration(answered, queue_seconds * 1e9),
            "compute_input": duration(batches, tally.codec_seconds * 1e9),
            "compute_infer": duration(batches, tally.model_seconds * 1e9),
            "compute_output": duration(batches, 0),
            "cache_hit": duration(0, 0),
            "cache_miss": duration(0, 0),
        },
        "batch_stats": [],
        "memory_usage": [],
    }


def duration(count: int, ns: float) -> dict[str, int]:
    return {"count": count, "ns": round(ns)}


def since_epoch_ms(at: float) -> int:
    """Convert a time of the monotonic clock to ms since 1970; 0 stands for never."""
    return round((time.time() - (monotonic() - at)) * 1000) if at else 0
