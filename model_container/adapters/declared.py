"""Columns declared by the model's owner, combined with those that the model itself knows."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Tuple

from model_container.adapters.columns import ColumnFacts
from model_container.bodies.values import ANY
from model_container.contract.config import PredictContract


def declared_columns(call: PredictContract) -> Tuple[List[ColumnFacts], bool]:
    """Return the declared columns, and whether requests name them; none if a tensor is declared that is no table."""
    if len(call.inputs) == 1 and len(call.inputs[0]["shape"]) == 2 and call.inputs[0]["shape"][1] > 0:
        port = call.inputs[0]
        return [ColumnFacts(f"feature{index + 1}", port["datatype"]) for index in range(port["shape"][1])], False
    if not all(list(port["shape"]) in ([-1], [-1, 1]) for port in call.inputs):
        return [], False
    return [ColumnFacts(port["name"], port["datatype"]) for port in call.inputs], bool(call.inputs)


def described(known: List[ColumnFacts], named: bool, call: PredictContract) -> Tuple[List[ColumnFacts], bool]:
    """Return the columns with the facts from both sources, and whether requests name them.

    named: whether the model itself names its columns. Raises TypeError if both sources contradict each other.
    """
    columns, names_said = declared_columns(call)
    if not columns:
        return known, named
    if not known:
        return columns, names_said
    by_name = {column.name: column for column in columns}
    names = [column.name for column in known]
    if len(columns) != len(known) or (named and names_said and by_name.keys() != set(names)):
        differ(call, f"names the inputs {_listing(list(by_name))}, but the model takes {_listing(names)}")
        return known, named
    for index, column in enumerate(known):
        other = by_name[column.name] if named and names_said else columns[index]
        column.name = column.name if named or not names_said else other.name
        column.datatype = other.datatype if column.datatype == ANY else column.datatype
    return known, named or names_said


def check_names(signature: Dict[str, Any], call: PredictContract) -> None:
    """Check the declared names against a model that knows its inputs. Raises TypeError if the owner declares others."""
    names = [port["name"] for port in signature["inputs"]]
    declared = [port["name"] for port in call.inputs]
    if declared and set(declared) != set(names):
        differ(call, f"names the inputs {_listing(declared)}, but the model takes {_listing(names)}")


def differ(call: PredictContract, what: str) -> None:
    """Report a contradiction: raise TypeError if the owner wrote the declaration by hand, otherwise print a warning."""
    if call.strict:
        raise TypeError(f"{call.source or 'its owner'} {what}")
    print(f"prism: {call.source} {what}; the model's own are taken", file=sys.stderr, flush=True)


def _listing(names: List[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
