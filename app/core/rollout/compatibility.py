"""Foretells from two signatures which requests and answers of one version another would not understand or give."""

from __future__ import annotations

from app.core.signature import Signature, Tensor

SHOWN_MAX = 8


def breaking_changes(production: Signature, candidate: Signature) -> tuple[str, ...]:
    """Return what callers of production would break on, a line for each; () if nothing is known to.

    More optional inputs and more outputs break nobody, nor does an input fewer in a table: columns that a model does not
    have are ignored. Without names, columns are told apart by their place, so their number counts.
    """
    if production.kind != candidate.kind:
        return (f"inputs: {production.kind} became {candidate.kind}",)
    found = _inputs(production, candidate)
    found += _tensors("output", production.outputs, candidate.outputs)
    if set(production.methods) - set(candidate.methods):
        found += [f"method {name}: gone" for name in sorted(set(production.methods) - set(candidate.methods))]
    return tuple(found)


def told(changes: tuple[str, ...]) -> str:
    """Return breaking changes as one line of text."""
    more = len(changes) - SHOWN_MAX
    return "; ".join(changes[:SHOWN_MAX]) + (f"; and {more} more" if more > 0 else "")


def _inputs(production: Signature, candidate: Signature) -> list[str]:
    if production.kind == "table" and not (production.named and candidate.named):
        before, after = len(production.inputs), len(candidate.inputs)
        return [] if before == after else [f"inputs: {before} columns became {after}"]
    known = {tensor.name for tensor in production.inputs}
    new = [tensor for tensor in candidate.inputs if tensor.name not in known and not tensor.optional]
    found = [f"input {tensor.name}: new, and needed" for tensor in new]
    names = {tensor.name for tensor in candidate.inputs}
    kept = tuple(tensor for tensor in production.inputs if production.kind != "table" or tensor.name in names)
    return found + _tensors("input", kept, candidate.inputs)


def _tensors(noun: str, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> list[str]:
    later = {tensor.name: tensor for tensor in after}
    found = []
    for tensor in before:
        now = later.get(tensor.name)
        if now is None:
            found.append(f"{noun} {tensor.name}: gone")
        elif _family(now.datatype) != _family(tensor.datatype):
            found.append(f"{noun} {tensor.name}: {tensor.datatype} became {now.datatype}")
        elif _is_narrower(tensor.shape, now.shape):
            found.append(f"{noun} {tensor.name}: shape {list(tensor.shape)} became {list(now.shape)}")
        elif noun == "input" and tensor.optional and not now.optional:
            found.append(f"{noun} {tensor.name}: needed now")
    return found


def _is_narrower(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Return whether a value of the first shape may not fit the second one."""
    return len(before) != len(after) or any(now not in (-1, size) for size, now in zip(before, after, strict=True))


def _family(datatype: str) -> str:
    """Return what a JSON caller sees of a datatype: all numbers are alike."""
    return "number" if datatype.startswith(("FP", "INT", "UINT", "BF")) else datatype
