"""Reads an uploaded file without running it: what it is, what it needs, and what it would do when loaded.

Its content decides what it is; its name only breaks the tie that the content leaves open.
"""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import Final

from picklescan.scanner import SafetyLevel, scan_pickle_bytes  # type: ignore[import-untyped]

from app.artifact.archives.compression import Stream
from app.artifact.archives.zip_index import ZIP_MAGIC, ZipFile
from app.artifact.distributions import UNDECLARED
from app.artifact.formats.boosters import read_booster
from app.artifact.formats.onnx import OnnxReading, read_onnx
from app.artifact.formats.skops import is_skops, pin_of_skops, read_skops
from app.artifact.formats.torch import TorchReading, is_torch, pin_of_torch, read_torch
from app.artifact.image_pins import OF_TORCH, image_pins_of_onnx, image_pins_of_pickle
from app.artifact.pickles import PickleReading, read_pickle
from app.artifact.requirements import (
    pins_of_compression,
    pins_of_onnx,
    pins_of_pickle,
    python_need_of,
    unknown_modules_of,
)
from app.artifact.unsafe_globals import dangers_of, missing_code_of
from app.core.inspection import Format, Inspection, Pin
from app.errors import BadInput, UnreadableArtifact, UnsupportedFormat

SERVED: Final = (
    "PRISM serves scikit-learn-like models (.pkl, .pickle, .joblib, .skops), boosters of XGBoost, LightGBM and CatBoost "
    "(.ubj, .json, .txt, .cbm), ONNX (.onnx), PyTorch (.pt, .pt2), and folders of Python or MLflow as .zip or .tar.gz."
)
PICKLE_SUFFIXES: Final = (".pkl", ".pickle", ".joblib")
TEXT_PICKLE_STARTS: Final = b"(lcd]}INFVSUXKMJG\x8c"
"""Opcodes that a pickle of protocol 0 or 1 can begin with: it has no magic number."""
logging.getLogger("picklescan").setLevel(logging.CRITICAL)  # its findings are shown with the model, not in our log
SHOWN_NAMES: Final = 50
SOURCE: Final = re.compile(r"^(import [\w.]+|from [\w.]+ import |def \w+\(|class \w+[(:]|#!.*python)", re.M)
SECOND_OPINION_MAX_BYTES: Final = 8 << 20
"""Largest content that picklescan is given: it keeps some hundred bytes an opcode, and reads a million a second."""

KERAS_TO_ONNX: Final = "Load it with Keras and export it to ONNX: `model.export('model.onnx', format='onnx')`."
PREDICT_ITS_ROWS: Final = (
    "Push the model, not its data; once it is live, `prism predict NAME -f FILE` gives its rows back with predictions."
)
FROM_R: Final = "Save a booster with `xgb.save` or `lgb.save`, or train the model in Python or export it to ONNX."
MAGICS: Final = (
    (b"version https://git-lfs.github.com/spec", "a git-lfs pointer", "Run `git lfs pull` to fetch the real file."),
    (ZIP_MAGIC, "a zip archive without a model that PRISM knows", "Export the model to ONNX."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as older Keras saves models", KERAS_TO_ONNX),
    (b"\x93NUMPY", "a numpy array (.npy)", "Upload the model, not its data."),
    (b"PAR1", "a table in Parquet", PREDICT_ITS_ROWS),
    (b"X\n\x00\x00\x00", "an object of R (.rds)", FROM_R),
    (b"RDX", "a workspace of R (.RData)", FROM_R),
    (b"GGUF", "a GGUF language model", "Serve it with llama.cpp and add that server as a provider."),
    (b"%PDF", "a PDF document", ""),
    (b"\x89PNG", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it and upload the model inside."),
    (b"\x7fELF", "a program", ""),
)


def inspect(path: Path, filename: str, beside: frozenset[str] = frozenset()) -> Inspection:
    """Read the file at `path` and return all that it tells. It may take seconds, so call it in a thread.

    filename: as the owner named it. beside: paths of the files that came with it, from its own folder.
    Raises BadInput for an empty file, UnsupportedFormat for what is no model file that PRISM serves,
    UnreadableArtifact for one that is damaged or could be read in two ways.
    """
    if path.stat().st_size == 0:
        raise BadInput("The file is empty.", hint="Save the model again and upload the file.", field="file")
    with Stream(path) as stream:
        head = stream.peek(512)
        compression = stream.compression
        if _is_pickle(head):
            return _pickle_inspection(path, filename, compression, read_pickle(stream))
        if not compression and (booster := read_booster(path, head)):
            return booster
        if not compression and (onnx := read_onnx(path, beside)):
            return _onnx_inspection(onnx)
        is_zip = head.startswith(ZIP_MAGIC) and not compression
        if is_zip and (inspection := _zip_inspection(path)):
            return inspection
        if known := (is_zip and _known_zip(path)) or _known_otherwise(head):
            raise _unsupported(filename, *known, compression=compression)
        if head[:1] in _bytes_of(TEXT_PICKLE_STARTS) and (reading := _text_pickle(stream, filename)):
            return _pickle_inspection(path, filename, compression, reading)
    raise _unsupported(filename, *_guess(head, filename), compression=compression)


def is_model_archive(path: Path) -> bool:
    """Return whether a file is a zip archive that `inspect` reads as a model, or knows what to do with."""
    with Stream(path) as stream:
        if not stream.peek(4).startswith(ZIP_MAGIC):
            return False
    with ZipFile(path) as archive:
        names = archive.names
        return is_skops(names) or is_torch(names) or _is_keras(names) or _is_npz(names)


def _is_keras(names: frozenset[str]) -> bool:
    return {"config.json", "model.weights.h5"} <= names


def _is_npz(names: frozenset[str]) -> bool:
    return all(name.endswith(".npy") for name in names)


def _is_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def _bytes_of(text: bytes) -> tuple[bytes, ...]:
    return tuple(bytes((byte,)) for byte in text)


def _text_pickle(stream: Stream, filename: str) -> PickleReading | None:
    """Read a pickle of protocol 0 or 1. None if it is none to its end, or imports nothing and so is no model."""
    named_so = filename.lower().endswith(PICKLE_SUFFIXES)
    try:
        reading = read_pickle(stream)
    except UnreadableArtifact:
        if named_so:
            raise
        return None
    return reading if reading.globals or named_so else None


def _pickle_inspection(path: Path, filename: str, compression: str, reading: PickleReading) -> Inspection:
    dangers = dangers_of(reading)
    if reading.data and not dangers:
        raise _only_data(filename, reading.data)
    joblib_format = reading.joblib or bool(compression) or filename.lower().endswith(".joblib")
    facts = {"pickle_protocol": str(reading.protocol) if reading.protocol > 1 else "0 or 1"}  # 0 and 1 do not say
    if reading.joblib:
        facts["joblib_arrays"] = str(reading.arrays)
    if reading.feature_names:
        facts["feature_names"] = _shown(reading.feature_names)
    return Inspection(
        format=Format.JOBLIB if joblib_format else Format.PICKLE,
        compression=compression,
        globals=reading.globals,
        pins=(*_all_pins(reading, joblib_format), *pins_of_compression(compression)),
        python=python_need_of(reading),
        dangers=dangers,
        missing_code=missing_code_of(reading.globals),
        unknown_modules=unknown_modules_of(reading.globals),
        second_opinion=_second_opinion(path, reading.arrays),
        facts=facts,
    )


def _all_pins(reading: PickleReading, joblib_format: bool) -> tuple[Pin, ...]:
    """Return the pins of a pickle, with those that neither the pickle nor a library's metadata name."""
    pins = {pin.distribution: pin for pin in pins_of_pickle(reading, joblib_format)}
    for pin in image_pins_of_pickle(reading):
        pins.setdefault(pin.distribution, pin)
    for name in reading.globals:
        for prefix, distribution in UNDECLARED.items():
            if name.startswith(prefix):
                pins.setdefault(distribution, Pin(distribution, "", f"`{name}` does not load without it"))
    return tuple(pins.values())


def _onnx_inspection(reading: OnnxReading) -> Inspection:
    facts = {"ir_version": str(reading.ir_version), "producer": reading.producer}
    for domain, version in reading.opsets.items():
        facts["opset" if domain == "ai.onnx" else f"opset.{domain}"] = str(version)
    facts |= {"inputs": _shown(reading.inputs), "outputs": _shown(reading.outputs)}
    return Inspection(format=Format.ONNX, pins=(*pins_of_onnx(reading), *image_pins_of_onnx(reading)), facts=facts)


def _zip_inspection(path: Path) -> Inspection | None:
    """Inspect a zip archive of skops or PyTorch; None for one of another kind."""
    with ZipFile(path) as archive:
        if is_skops(archive.names):
            return _skops_inspection(*read_skops(archive))
        if torch := read_torch(archive):
            return _torch_inspection(torch)
    return None


def _skops_inspection(reading: PickleReading, version: str) -> Inspection:
    facts = {"skops_protocol": str(reading.protocol), "skops_version": version[:SHOWN_NAMES]}
    if reading.feature_names:
        facts["feature_names"] = _shown(reading.feature_names)
    return Inspection(
        format=Format.SKOPS,
        globals=reading.globals,
        pins=(*pins_of_pickle(reading, joblib_format=False), pin_of_skops(version), *image_pins_of_pickle(reading)),
        dangers=dangers_of(reading),
        missing_code=missing_code_of(reading.globals),
        unknown_modules=unknown_modules_of(reading.globals),
        facts=facts,
    )


def _torch_inspection(reading: TorchReading) -> Inspection:
    pickles = reading.pickles
    return Inspection(
        format=reading.format,
        globals=pickles.globals,
        pins=(
            pin_of_torch(reading.torch_version),
            *(
                pin
                for pin in pins_of_pickle(pickles, False)
                if pin.distribution not in ("torch", OF_TORCH.distribution)
            ),
            OF_TORCH,
        ),
        python=python_need_of(pickles),
        dangers=dangers_of(pickles),
        missing_code=missing_code_of(pickles.globals) or reading.missing_code,
        unknown_modules=unknown_modules_of(pickles.globals),
        facts=reading.facts,
    )


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN_NAMES])


def _known_zip(path: Path) -> tuple[str, str] | None:
    """Return what a zip archive is and what to do, if it is of a known kind that PRISM does not serve."""
    with ZipFile(path) as archive:
        if _is_keras(archive.names):
            return "a Keras model (.keras)", KERAS_TO_ONNX
        return ("numpy arrays (.npz)", "Upload the model, not its data.") if _is_npz(archive.names) else None


def _known_otherwise(head: bytes) -> tuple[str, str] | None:
    """Return what a file of a known kind that PRISM does not serve is, and what to do; None for an unknown one."""
    for magic, what, hint in MAGICS:
        if head.startswith(magic):
            return what, hint
    if head[257:262] == b"ustar":
        return "a tar archive", "Pack it as .zip or .tar.gz."
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 30:
        return "a safetensors file", "It contains weights without a model; export the model to ONNX."
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model", "Convert it with tf2onnx."
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return (
            "an HTML page",
            "A download that requires a login often saves the login page instead; download the file again.",
        )
    if text.startswith(b"<"):
        return "an XML document", ""
    return None


def _guess(head: bytes, filename: str) -> tuple[str, str]:
    try:
        text = head[: head.rfind(b"\n") + 1].decode() or head.decode()
    except UnicodeDecodeError:
        return "not a format that PRISM knows", ""
    if filename.lower().endswith(".py") or SOURCE.search(text):
        return (
            "Python source",
            "Run it and push the model that it saves; send the source with `--code` if the model needs it. A `model.py` that "
            "is the model itself is pushed as a folder.",
        )
    if filename.lower().endswith(".ipynb"):
        return "a notebook", "Run it, and push the model that it saves, or call `prism.deploy(model)` in it."
    if text.lstrip().startswith(("{", "[")):
        return "JSON", "A LightGBM model: save it as text, with `booster_.save_model`."
    first = text.splitlines()[0] if text.strip() else ""
    if "," in first or "\t" in first or ";" in first:
        return "a table in CSV", PREDICT_ITS_ROWS
    return "text", ""


def _unsupported(filename: str, what: str, hint: str, *, compression: str) -> UnsupportedFormat:
    inside = f" inside its {compression} compression" if compression else ""
    return UnsupportedFormat(
        f"`{filename[:200]}` is {what}{inside}.",
        hint=f"{hint} {SERVED}".strip(),
        found=what,
    )


def _only_data(filename: str, what: str) -> UnsupportedFormat:
    hint = "Save the trained model itself, for example with `joblib.dump(model, 'model.joblib')`."
    if what in ("a dict", "a list", "a tuple"):
        hint += " If the model is one of several things in it, save that one; if they belong together, write a `model.py` that loads them."
    return UnsupportedFormat(f"`{filename[:200]}` holds {what}, not a model.", hint=hint, found=what)


def _second_opinion(path: Path, arrays: int) -> tuple[str, ...]:
    """Return the findings of picklescan, a line each. They are shown and never decide, so no error in it stops us."""
    with Stream(path) as stream:
        content = stream.read(SECOND_OPINION_MAX_BYTES + 1)
    if len(content) > SECOND_OPINION_MAX_BYTES:
        return (f"picklescan was not used: the file expands to over {SECOND_OPINION_MAX_BYTES >> 20} MiB",)
    try:
        result = scan_pickle_bytes(io.BytesIO(content), "artifact", multiple_pickles=False)
    except Exception as error:
        return (f"picklescan could not read the file: {type(error).__name__}: {str(error)[:200]}",)
    names = sorted(
        f"{symbol.module}.{symbol.name}" for symbol in result.globals if symbol.safety is SafetyLevel.Dangerous
    )
    lines = [f"picklescan: dangerous import {name}" for name in names]
    if not names:
        lines.append(f"picklescan: no dangerous import among {len(result.globals)}")
    if arrays:
        lines.append("picklescan reads a joblib file only as far as its first array")
    return tuple(lines)
