"""ONNX graphs that may replace an estimator, the most faithful first."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from model_container.bodies.table import Table
from model_container.conversion.trees import ML_OPSET, OPSET, Ensemble, NotConvertible, ensemble_of, graph_of

_IR_VERSION_MAX = 10
_BOOSTED_OPSET = 15  # the newest that every onnxmltools version for xgboost 1.7 or later accepts
_CLASSIFIES = ("votes", "sigmoid", "softmax")

Types = List[Tuple[str, str, int]]
"""Name, type as skl2onnx names it, and width of each input of a graph."""


class Candidate(NamedTuple):
    """Graph that may replace the estimator. converter: name and version of what creates it.

    labels_by_index: whether its first output is the index of the class.
    """

    converter: str
    graph: Callable[[], Any]
    labels_by_index: bool


def candidates(model: Any, table: Table) -> Iterator[Candidate]:
    """Yield candidate graphs. Raises NotConvertible if the model's parts rule every graph out."""
    model = _fitted(model)
    before, last = _split(model)
    width = len(table.columns)
    matrix = all(column.datatype == "FP64" for column in table.columns)
    doubles = [("X", "DoubleTensorType", width)] if matrix else _typed(table, "DoubleTensorType")
    ensemble = ensemble_of(last) if matrix or before is not None else None
    if ensemble is not None:
        yield Candidate(_prism(), lambda: _trees(before, ensemble, doubles), ensemble.link in _CLASSIFIES)
        return  # other converters round the values that a tree compares, so they cannot do better
    if _library(last) in ("xgboost", "lightgbm"):
        if before is not None or not matrix or _library(last) == "lightgbm":
            raise NotConvertible(
                f"{type(last).__name__} is converted only where it takes numbers, XGBoost's only alone"
            )
        yield Candidate(_version("onnxmltools"), lambda: _boosted(last, width), False)
        return
    floats = [("X", "FloatTensorType", width)] if matrix else _typed(table, "FloatTensorType")
    for types in (doubles, floats):
        yield Candidate(_version("skl2onnx"), _maker(model, types), False)


def _maker(model: Any, types: Types) -> Callable[[], Any]:
    return lambda: _skl2onnx(model, types)


def _typed(table: Table, numbers: str) -> Types:
    named = {"FP64": numbers, "BYTES": "StringTensorType"}
    unknown = [column for column in table.columns if column.datatype not in named]
    if unknown:
        raise NotConvertible(f"column {unknown[0].name!r} is of type {unknown[0].datatype}")
    return [(column.name, named[column.datatype], 1) for column in table.columns]


def _fitted(model: Any) -> Any:
    """Return the best estimator of a search, or the model itself."""
    while getattr(model, "best_estimator_", None) is not None:
        model = model.best_estimator_
    return model


def _split(model: Any) -> Tuple[Optional[Any], Any]:
    """Return the part of a pipeline before its last step, None if there is none, and the last step."""
    steps = getattr(model, "steps", None)
    if not isinstance(steps, list):
        return None, model
    real = [step for _, step in steps[:-1] if step not in (None, "passthrough")]
    return (model[:-1] if real else None), _fitted(steps[-1][1])


def _library(model: Any) -> str:
    return type(model).__module__.split(".")[0]


def _trees(before: Any, ensemble: Ensemble, types: Types) -> Any:
    """Combine the steps before the trees, converted by skl2onnx in doubles, with the graph of the trees."""
    if before is None:
        return graph_of(ensemble, types[0][2])
    from onnx import compose, helper

    first = _skl2onnx(before, types)
    output = first.graph.output[0]
    kind = output.type.tensor_type
    used = max(int(np.max(tree.feature)) for tree in ensemble.trees) + 1
    width = kind.shape.dim[1].dim_value if len(kind.shape.dim) == 2 else 0
    second = graph_of(ensemble, width or used, kind.elem_type)
    # Merging requires equal opsets; declaring a domain that a graph does not use is harmless.
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    for graph in (first, second):
        del graph.opset_import[:]
        graph.opset_import.extend(opsets)
        graph.ir_version = second.ir_version
    return compose.merge_models(first, compose.add_prefix(second, "trees_"), io_map=[(output.name, "trees_X")])


def _skl2onnx(model: Any, types: Types) -> Any:
    from skl2onnx import to_onnx  # type: ignore[import-untyped]
    from skl2onnx.common import data_types  # type: ignore[import-untyped]

    initial = [(name, getattr(data_types, kind)([None, width])) for name, kind, width in types]
    options = {"zipmap": False} if callable(getattr(model, "predict_proba", None)) else None
    opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    return _aged(to_onnx(model, initial_types=initial, options=options, target_opset=opsets))


def _boosted(model: Any, width: int) -> Any:
    converters = import_module("onnxmltools")
    types = import_module("onnxmltools.convert.common.data_types")
    function = getattr(converters, f"convert_{_library(model)}")
    initial = [("X", types.FloatTensorType([None, width]))]
    with _numbered(model.get_booster()):
        return _aged(function(model, initial_types=initial, target_opset=_BOOSTED_OPSET))


@contextmanager
def _numbered(booster: Any) -> Iterator[None]:
    """Remove the booster's column names for a while, since onnxmltools accepts only f0, f1, …"""
    names = booster.feature_names
    booster.feature_names = None
    try:
        yield
    finally:
        booster.feature_names = names


def _aged(graph: Any) -> Any:
    """Lower the IR version, so that every onnxruntime since 1.18 reads the file, whichever onnx version wrote it."""
    graph.ir_version = min(graph.ir_version, _IR_VERSION_MAX)
    return graph


def _prism() -> str:
    import onnx

    return f"PRISM's own for trees, onnx {onnx.__version__}"


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
