"""Reads a pickle to its end without running it: which globals it imports, and what it says of its libraries.

A pickle is a program for a small stack machine. This is that machine with symbols in place of objects: it follows
the stack and the memo far enough to know every import and the few values that matter, and calls nothing. joblib
files are such programs with raw array bytes in between: where joblib would read an array, exactly as many bytes are
passed over here.

Whoever wrote the file may be hostile. Two readers that disagree on where an opcode begins see two different
programs, so wherever this one could part from Python's own (frames, array lengths, computed names) the file is
refused. Opcodes: Python's `pickletools`; arrays: joblib's `numpy_pickle.NumpyArrayWrapper.read_array`.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, structs

from app.artifact.archives.compression import Source
from app.artifact.pickles.opcodes import HANDLERS
from app.artifact.pickles.symbols import OPAQUE, kind_of_data
from app.artifact.pickles.walker import Findings, PickleScanner


class PickleReading(Struct, frozen=True):
    """The findings of a walk through a pickle.

    globals: sorted `module.name` of every import, `module:a.b` where the name is a path of attributes.
    called: those of the globals that are called, or handed to something that is; `module.name()` where what a call
    gave is called in turn. changed: those that are changed in place, as no pickle of a model does. held: those that
    `functools.partial` and `defaultdict` are given, to be called later; `module.name()` for what a call gave.
    formulas: values under the key `formula`, "" for one that is no plain text. computed_keys: a call gave some key, which may be text.
    sklearn_versions: values of `_sklearn_version`. feature_names: of the outermost `feature_names_in_`.
    widths: the numbers of columns that the model, or one of its steps, takes.
    has_categories: LightGBM remembers categories of pandas. xgboost_versions: of XGBoost's boosters.
    sets_output: scikit-learn's `set_output` was called, so that steps hand on other things than arrays.
    code_arguments: the numbers of arguments of code objects, which tell the Python that made them;
    code_pythons: specifiers, as their bytecode tells it. arrays: how many joblib arrays were passed over. data: what the
    pickle holds if that is data and no model, such as "a pandas DataFrame"; otherwise "".
    """

    protocol: int
    globals: tuple[str, ...]
    called: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()
    computed_keys: bool = False
    sklearn_versions: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    has_categories: bool = False
    xgboost_versions: tuple[str, ...] = ()
    sets_output: bool = False
    code_arguments: tuple[int, ...] = ()
    code_pythons: tuple[str, ...] = ()
    arrays: int = 0
    joblib: bool = False
    data: str = ""


def read_pickle(stream: Source) -> PickleReading:
    """Walk the pickle in `stream` to its end. Cost: about 2 million opcodes a second; arrays are skipped.

    Raises UnreadableArtifact, with the place and the reason, for what cannot be read or could be read in two ways.
    """
    findings = Findings()
    walker = PickleScanner(stream, findings, HANDLERS, inline_arrays=True)
    _walk(walker)
    held = walker.result
    data = "a numpy array" if held is OPAQUE and findings.arrays else kind_of_data(held)
    return structs.replace(_reading(findings, walker.protocol), data=data)


def read_tensor_pickles(streams: Iterable[Source]) -> PickleReading:
    """Walk the pickles of a PyTorch archive, all as one reading: tensors are named by ids, their bytes lie elsewhere.

    Raises UnreadableArtifact as `read_pickle` does.
    """
    findings = Findings()
    protocol = 0
    for stream in streams:
        walker = PickleScanner(stream, findings, HANDLERS, has_tensors=True)
        _walk(walker)
        protocol = max(protocol, walker.protocol)
    return _reading(findings, protocol)


def _walk(walker: PickleScanner) -> None:
    walker.walk()
    if walker.has_more():
        raise walker.unreadable("other bytes follow its end", "Save one model, and nothing else, in the file.")


def _reading(findings: Findings, protocol: int) -> PickleReading:
    return PickleReading(
        protocol=protocol,
        globals=tuple(sorted(findings.globals)),
        called=tuple(sorted(findings.called)),
        changed=tuple(sorted(findings.changed)),
        held=tuple(sorted(findings.held)),
        formulas=tuple(sorted(findings.formulas)),
        computed_keys=findings.computed_keys,
        sklearn_versions=tuple(sorted(findings.sklearn_versions)),
        feature_names=findings.feature_names,
        widths=tuple(sorted(findings.widths)),
        has_categories=findings.has_categories,
        xgboost_versions=tuple(sorted(findings.xgboost_versions)),
        sets_output=findings.sets_output,
        code_arguments=tuple(sorted(findings.code_arguments)),
        code_pythons=tuple(sorted(findings.code_pythons)),
        arrays=findings.arrays,
        joblib=findings.joblib,
    )
