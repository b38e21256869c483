"""Records of what an artifact says of itself when it is read without being run."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Format(StrEnum):
    """The way in which an artifact is stored. It decides which adapter of the runtime loads it."""

    PICKLE = "pickle"
    JOBLIB = "joblib"
    SKOPS = "skops"
    XGBOOST = "xgboost"  # this and the next two: a file in the library's own format
    LIGHTGBM = "lightgbm"
    CATBOOST = "catboost"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch_export"
    TORCH = "torch"
    ONNX = "onnx"
    PYTHON = "python"  # a folder with a model.py
    MLFLOW = "mlflow"  # a folder that only MLflow itself can load
    ACCELERATED = (
        "accelerated"  # never uploaded: an ONNX file of PRISM's own making, see model_container/conversion/convert.py
    )


MODULE_OF_WEIGHTS = "model.build_model"
"""The code that is named as missing where a file of PyTorch holds weights only."""


MISSING_VALUES = "missing in "
"""Begins the name of the fact that lists what a script of the owner computes and its definitions lack."""


class Pin(Struct, frozen=True):
    """One distribution the model needs, and why PRISM believes so.

    specifier: PEP 440, for example "==1.5.2"; empty where the artifact says nothing about the version.
    evidence: one sentence a person can check, for example
        "`_sklearn_version` in the file is 1.5.2".
    """

    distribution: str
    specifier: str
    evidence: str

    @property
    def requirement(self) -> str:
        return self.distribution + self.specifier


class PythonConstraint(Struct, frozen=True):
    """The Python that an artifact asks for: a PEP 440 specifier such as ">=3.11" and its evidence."""

    specifier: str
    evidence: str


class UnsafeGlobal(Struct, frozen=True):
    """A global that would run code of the uploader's choice when the file is loaded.

    package: the module at its top where nothing else is wrong with it than that nobody vouched for that package; else "".
    is_function: nothing else is wrong with it than that it is a function of a package that PRISM does not know, so that
    it is harmless if it is of the owner's own code.
    """

    name: str
    reason: str
    package: str = ""
    is_function: bool = False


class Inspection(Struct, frozen=True):
    """The whole reading of one artifact.

    compression: "zlib", "gzip", "bz2", "lzma", "xz", "lz4" or "" for none.
    globals: every `module.name` that the pickle imports, sorted.
    missing_code: names it imports from `__main__`, e.g. "__main__.Scaler".
    unknown_modules: top names of modules that it imports and no known distribution provides.
    unknown_pins: what requirements that came with it ask for beside known distributions; not installed as it is.
    second_opinion: what picklescan said, one line each; shown, never the judge.
    facts: further things worth showing, e.g. {"pickle_protocol": "5", "opset": "17"}.
    """

    format: Format
    compression: str = ""
    globals: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()
    python: PythonConstraint | None = None
    dangers: tuple[UnsafeGlobal, ...] = ()
    missing_code: tuple[str, ...] = ()
    unknown_modules: tuple[str, ...] = ()
    unknown_pins: tuple[Pin, ...] = ()
    second_opinion: tuple[str, ...] = ()
    facts: dict[str, str] = {}
