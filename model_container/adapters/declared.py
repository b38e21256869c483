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
        one = call.inputs[0]
        return [ColumnFacts(f"feature{index + 1}", one["datatype"]) for index in range(one["shape"][1])], False
    if not all(list(one["shape"]) in ([-1], [-1, 1]) for one in call.inputs):
        return [], False
    return [ColumnFacts(one["name"], one["datatype"]) for one in call.inputs], bool(call.inputs)


def described(known: List[ColumnFacts], named: bool, call: PredictContract) -> Tuple[List[ColumnFacts], bool]:
    """Return the columns with the facts from both sources, and whether requests name them.

    named: whether the model itself names its columns. Raises TypeError if both sources contradict each other.
    """
    said, names_said = declared_columns(call)
    if not said:
        return known, named
    if not known:
        return said, names_said
    by_name = {one.name: one for one in said}
    names = [one.name for one in known]
    if len(said) != len(known) or (named and names_said and by_name.keys() != set(names)):
        differ(call, f"has the inputs {_listing(list(by_name))}, and the model takes {_listing(names)}")
        return known, named
    for index, one in enumerate(known):
        other = by_name[one.name] if named and names_said else said[index]
        one.name = one.name if named or not names_said else other.name
        one.datatype = other.datatype if one.datatype == ANY else one.datatype
    return known, named or names_said


def check_names(signature: Dict[str, Any], call: PredictContract) -> None:
    """Check the declared names against a model that knows its inputs. Raises TypeError if the owner declares others."""
    names = [one["name"] for one in signature["inputs"]]
    said = [one["name"] for one in call.inputs]
    if said and set(said) != set(names):
        differ(call, f"has the inputs {_listing(said)}, and the model takes {_listing(names)}")


def differ(call: PredictContract, what: str) -> None:
    """Report a contradiction: raise TypeError if the owner wrote the declaration by hand, otherwise print a warning."""
    if call.strict:
        raise TypeError(f"{call.source or 'its owner'} {what}")
    print(f"prism: {call.source} {what}; the model's own are taken", file=sys.stderr, flush=True)


def _listing(names: List[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
