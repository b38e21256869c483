"""Conversion of a loaded estimator to an ONNX model with the same API, and a proof that both predict the same.

    may it be → candidate graphs → each behind the adapter that will serve it → compare → measure → report

The conversion runs in a replica of its own, in the same sandbox as any other, because it too runs the estimator's code.
The report:

    {"reason": "" or why the original stays, "speedup": {"1": 210.3, "256": 4.1}, "rows_compared": 4096,
     "max_difference": 1e-8, "tolerance": {"relative": …, "absolute": …}, "converter": "skl2onnx 1.20.0"}
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Dict, List, Tuple

import msgspec

from model_container.adapters.accelerated import METADATA_KEY, AcceleratedAdapter
from model_container.adapters.base import Adapter, Inputs
from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.onnx.session import open_session
from model_container.bodies.values import ANY
from model_container.conversion.graph import Candidate, candidates
from model_container.conversion.judge import Comparison, Difference, compare_variants
from model_container.conversion.rows import RowSet, rows_for
from model_container.conversion.trees import NotConvertible

MAX_ONNX_BYTES = 256 << 20
_NICENESS = 10  # live models have priority
_PROBES = (("missing", float("nan")), ("large", 1e39))


def convert(adapter: Adapter) -> Tuple[bytes, bytes]:
    """Answer a CONVERT frame: return the report as JSON, and the ONNX file."""
    with suppress(OSError):
        os.nice(_NICENESS)
    judgement, content = prove(adapter)
    print(f"prism: conversion: {judgement}", file=sys.stderr, flush=True)
    return msgspec.json.encode(asdict(judgement)), content


def prove(adapter: Adapter) -> Tuple[Comparison, bytes]:
    """Return the comparison and the ONNX file, which is empty if the original stays.

    Never raises for what the model or a library does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _convert(adapter)
        except NotConvertible as refusal:
            return Comparison(reason=str(refusal)), b""
        except Exception as error:
            return Comparison(reason=f"the conversion failed: {_words(error)}"), b""


def _convert(adapter: Adapter) -> Tuple[Comparison, bytes]:
    original = _suited(adapter)
    table = original.table
    assert table is not None
    rows = rows_for(original.model, original.signature(), table)
    facts = facts_of(original, rows)
    differences: List[str] = []
    failures: List[str] = []
    for candidate in candidates(original.model, table):
        try:
            content = _with_facts(candidate, facts)
            faster = AcceleratedAdapter(open_session(content, 1))
            judgement = compare_variants(original, faster, rows, candidate.converter)
        except (Difference, NotConvertible) as difference:
            differences.append(str(difference))
            continue
        except Exception as error:  # a library that cannot convert the model may raise any error
            failures.append(f"{candidate.converter} cannot convert it: {_words(error)}")
            continue
        return judgement, b"" if judgement.reason else content
    return Comparison(reason=(differences + failures + ["there is no converter for it"])[0]), b""


def _suited(adapter: Adapter) -> EstimatorAdapter:
    """Return the adapter if a conversion is possible. Raises NotConvertible if no ONNX model can have the same API."""
    if not isinstance(adapter, EstimatorAdapter):
        raise NotConvertible("it is not an estimator")
    if adapter.method != "predict" or not adapter.joinable:
        raise NotConvertible(f"it has no predict() that answers each row separately, but {adapter.method or 'a call'}")
    if adapter.table is None:
        raise NotConvertible("it takes text, or does not say which columns it takes")
    free = [column.name for column in adapter.table.columns if column.datatype == ANY]
    if free:
        raise NotConvertible(f"it does not say whether column {free[0]!r} holds numbers or text")
    if adapter.classes and isinstance(adapter.classes[0], list):
        raise NotConvertible("it predicts several columns of labels")
    return adapter


def facts_of(original: EstimatorAdapter, rows: RowSet) -> Dict[str, Any]:
    """Return the metadata for adapters/accelerated.py, except `labels`, which depends on the graph."""
    table = original.table
    assert table is not None
    outputs = original.predict(rows.pick([0]), False)
    if outputs.named or len(outputs.values) != 1:
        raise NotConvertible("its predictions are a table of named columns")
    (predicted,) = outputs.values.values()
    if isinstance(predicted, list):
        raise NotConvertible("its predictions are not an array")
    return {
        "columns": [[column.name, column.datatype, column.missing is None] for column in table.columns],
        "named": table.named,
        "spaceless": table.spaceless,
        "dtype": predicted.dtype.str,
        "width": predicted.shape[1] if predicted.ndim == 2 else 0,
        "labels": None,
        "classes": original.classes,
        "has_probabilities": original.has_probabilities,
        "signature": original.signature(),
        "samples": original.samples(),
        **{name: _refusals(original, rows, value) for name, value in _PROBES},
    }


def _refusals(original: EstimatorAdapter, rows: RowSet, value: float) -> Dict[str, str]:
    """Return, by column, the message with which the estimator refuses this value there; −1 stands for every column."""
    refusals: Dict[str, str] = {}
    numbers = rows.number_columns
    if _refusal(original, rows.with_values(numbers, value)) == "":
        return refusals
    for column in numbers:
        message = _refusal(original, rows.with_values([column], value))
        if message:
            refusals[str(column)] = message
    everywhere = len(refusals) == rows.width and len(set(refusals.values())) == 1 and rows.is_matrix
    return {"-1": refusals["0"]} if everywhere else refusals


def _refusal(original: EstimatorAdapter, inputs: Inputs) -> str:
    try:
        original.predict(inputs, False)
    except ValueError as error:
        return str(error)
    return ""


def _with_facts(candidate: Candidate, facts: Dict[str, Any]) -> bytes:
    """Build the graph as a file that contains the facts. Raises NotConvertible if it is too large."""
    graph = candidate.graph()
    labels = facts["classes"] if candidate.labels_by_index and facts["classes"] else None
    text = msgspec.json.encode({**facts, "labels": labels}, enc_hook=str).decode()
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, text
    if graph.ByteSize() > MAX_ONNX_BYTES:
        raise NotConvertible(f"its ONNX variant is larger than {MAX_ONNX_BYTES >> 20} MiB")
    return bytes(graph.SerializeToString())


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:240]
