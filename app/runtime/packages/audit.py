"""Finds installed files that have no business in a model's environment.

These are files that Python runs by itself, files that pose as the interpreter's, and links that lead out.

None of it would run outside the sandbox, as no Python is started from there (interpreter.py). Whoever brings it is
refused all the same: this check must suffice if another one fails.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from app.errors import BuildFailed

HARMLESS_PTH = frozenset(
    {
        "7ea7ffef3fe2a117ee12c68ed6553617f0d7fd2f0590257c25c484959a3b7373",  # setuptools up to 59
        "2638ce9e2500e572a5e0de7faed6661eb569d1b696fcba07b0dd223da5f5d224",  # setuptools from 60 on
        "7b9d5f18e0af2d7bda9a8a17ca2767ee854875f0f9fb7430734bd140fea6d2c6",  # cuda-bindings 12, of PyTorch for CUDA
        "28d86507e791da835cf8b9dd21fe98b579b77b3ca27e3ad27bae6239bc94f769",  # cuda-bindings 12.9
        "c47e604f1738522a583f7aab6cffb80821cd18157dede051e10aa185e0af065e",  # protobuf up to 3.20, google-auth, …
        "6f40f9759937454ccae78b59f62643bcb9bbbbc96d73913362b1829a1b2ea0dc",  # google-cloud-core, -storage, …
        "4e0e2ba637b0171ece4364f416026bd37ab5a630eebf4b37fcab7b3a6e8d4536",  # googleapis-common-protos
        "1603bfdee834ef511710a4fc9a038f054872aecc0fb4f0988cea540b26aeed45",  # matplotlib up to 3.6
        "af80ee4584a67e12c46d49cb14269fba7e5d2b62e9be639ef13acc1d10ac977c",  # matplotlib 3.7
        "444376de46bbeaa015b62bae3fe592ac7003e257a2714b0507f0150837d17bc5",  # ruamel.yaml up to 0.17
        "4961151fe8c45ac298acbd2aa02e86049692b71fe22b11a8018f4f432705542e",  # zope.interface
    }
)
"""SHA-256 of `.pth` files that common packages bring. They are not obeyed: all but the first four make namespace
packages, for which Python needs no help; what setuptools' is for is in model_container/environment.py."""

MAX_PTH_BYTES = 1 << 16
MAX_RECORD_BYTES, MAX_RECORD_LINES = 8 << 20, 100_000
"""Bounds of a RECORD. That of PyTorch 2.13 lists 12,248 files in 1.2 MiB."""
RUN_BY_SITE = frozenset({"sitecustomize", "usercustomize"})
INTERPRETER = re.compile(r"python[0-9.]*[a-z]?(-config)?(\.exe)?", re.IGNORECASE)


def site_packages(folder: Path, python: str) -> Path:
    """Return the folder of packages in an environment for this Python minor."""
    return folder / "lib" / f"python{python}" / "site-packages"


def check(folder: Path, python: str) -> None:
    """Check an environment. Raises BuildFailed for the first file that must not be there, naming who brought it."""
    packages = site_packages(folder, python)
    for path, fault in (*_faults(folder, packages), *_records_that_lead_out(folder, packages)):
        who = _who_brought(path, packages)
        raise BuildFailed(
            f"{who} contains {os.path.relpath(path, folder)}, {fault}.",
            hint=f"None of it was run. Do without {who}, or ask its authors why it includes that file.",
        )


def _faults(folder: Path, packages: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files that must not be there, with what is wrong with each."""
    for place, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                yield path, "a link that leads out of the environment"
            if name.lower() == "pyvenv.cfg" and not path.is_relative_to(packages):
                yield path, "which would tell Python where its own files are"
    for path in packages.iterdir():
        if path.suffix.lower() == ".pth" and not _is_harmless(path):
            yield path, "which Python would run at each start"
        if path.name.split(".")[0].lower() in RUN_BY_SITE:
            yield path, "which Python would run at each start"
    for path in (folder / "bin").glob("*"):
        if INTERPRETER.fullmatch(path.name):
            yield path, "which poses as the interpreter"


def _is_harmless(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > MAX_PTH_BYTES:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() in HARMLESS_PTH


def _records_that_lead_out(folder: Path, packages: Path) -> Iterator[tuple[Path, str]]:
    for path in _recorded(packages):
        if not path.is_relative_to(folder):
            yield path, "which lies outside the environment"


def _who_brought(path: Path, packages: Path) -> str:
    """Return the distribution whose RECORD lists a file, or a file in a folder, as "name 1.0"."""
    for known, distribution in _recorded(packages).items():
        if known.is_relative_to(path):
            return distribution
    return "A package that does not list it in its RECORD"


def _recorded(packages: Path) -> dict[Path, str]:
    """Return the files that distributions list, each with its distribution. Paths are absolute and without `..`."""
    distributions: dict[Path, str] = {}
    for record in packages.glob("*.dist-info/RECORD"):
        distribution = record.parent.name.removesuffix(".dist-info").replace("-", " ", 1)
        distributions |= {
            Path(os.path.normpath(packages / name)): distribution for name in _names_in(record, distribution)
        }
    return distributions


def _names_in(record: Path, distribution: str) -> list[str]:
    try:
        if record.stat().st_size > MAX_RECORD_BYTES:
            raise csv.Error(f"it has more than {MAX_RECORD_BYTES >> 20} MiB")
        with record.open(newline="", encoding="utf-8", errors="replace") as lines:
            names = [row[0] for row in islice(csv.reader(lines, strict=True), MAX_RECORD_LINES + 1) if row]
        if len(names) > MAX_RECORD_LINES:
            raise csv.Error(f"it lists more than {MAX_RECORD_LINES:,} files")
        return names
    except (OSError, csv.Error) as error:
        raise BuildFailed(
            f"The RECORD of {distribution} cannot be read: {error}.",
            hint=f"Do without {distribution}, or ask its authors for a sound wheel.",
        ) from error
