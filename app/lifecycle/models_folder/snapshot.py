"""The models folder on disk: what is in each entry, whether it is still changing, and a copy for the server's use."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from app.artifact.archives.member import FACTOR, LEFT_OUT, MEMBERS_MAX, parts_of
from app.core.model import Artifact
from app.core.model_config import FILE_NAME
from app.core.plain import valid_text
from app.errors import BadInput, PrismError, TooLarge

COPY_BYTES: Final = 1 << 20
CONFIG_BYTES_MAX: Final = 1 << 20
"""The largest model_config.yaml; a larger one is refused when it is read."""

REPLICAS_LINE: Final = re.compile(rb"^replicas[ \t]*:[^\n]*(\n|\Z)", re.MULTILINE)


class FolderSnapshot(Struct, frozen=True):
    """An entry as it is now.

    files: (path, bytes, time of change in ns). changed_at: time of the latest change, in seconds since 1970.
    problem: why it cannot be read, "" if it can.
    """

    files: tuple[tuple[str, int, int], ...]
    changed_at: float
    problem: str = ""


def take_snapshot(root: Path) -> dict[str, FolderSnapshot]:
    """Return the entries by name: the folders in `root` whose name does not begin with a dot.

    Raises OSError if `root` cannot be read.
    """
    entries: dict[str, FolderSnapshot] = {}
    for path in sorted(root.iterdir()):
        if not path.name.startswith(".") and path.name not in LEFT_OUT and path.is_dir():
            entries[valid_text(path.name)] = _look(root, path)
    return entries


def unserved_files(root: Path) -> list[str]:
    """Return the files that lie directly in the models folder, where nothing serves them."""
    return sorted(valid_text(path.name) for path in root.iterdir() if path.is_file() and path.name[:1] != ".")


def _look(root: Path, folder: Path) -> FolderSnapshot:
    files, changed_at = [], 0.0
    if _is_unreadable(folder.name):
        return FolderSnapshot((), changed_at, "its name is not UTF-8")
    try:
        for path in _files(root, folder):
            seen = path.stat()
            files.append((str(path.relative_to(folder)), seen.st_size, seen.st_mtime_ns))
            changed_at = max(changed_at, seen.st_ctime, path.parent.stat().st_ctime)
            if len(files) > MEMBERS_MAX:
                return FolderSnapshot((), changed_at, f"it holds more than {MEMBERS_MAX} files")
    except FileNotFoundError:  # it is being changed right now
        return FolderSnapshot(tuple(files), float("inf"))
    except (OSError, PrismError) as error:
        return FolderSnapshot((), changed_at, str(error))
    return FolderSnapshot(tuple(sorted(files)), max(changed_at, folder.stat().st_ctime if folder.exists() else 0.0))


def _files(root: Path, folder: Path) -> Iterator[Path]:
    """Yield the files of an entry. Raises BadInput for a link that leads out of the models folder or nowhere."""
    pending = [folder]
    while pending:
        here = pending.pop()
        _check_link(root, here)
        for path in sorted(here.iterdir()):
            if path.name in LEFT_OUT or (path.name.startswith(".") and path.name != ".python-version"):
                continue
            if _is_unreadable(path.name):
                raise BadInput(f"The name of `{valid_text(path.name)}` is not UTF-8.", hint="Rename it.")
            if path.is_dir():
                if path.is_symlink() and here.resolve().is_relative_to(path.resolve()):
                    raise BadInput(f"`{path.name}` leads to one of its parent folders.", hint="Remove that link.")
                pending.append(path)
            elif path.is_file():
                _check_link(root, path)
                yield path
            elif path.is_symlink():
                raise BadInput(
                    f"The target of the link `{path.name}` does not exist.", hint="Correct or remove the link."
                )


def _is_unreadable(name: str) -> bool:
    """Return whether the name, as the file system has it, is not UTF-8 text."""
    return valid_text(name) != name


def _check_link(root: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise BadInput(
            f"`{path.name}` leads out of the models folder.",
            hint="Links may only lead to places within it: move the files there, or set PRISM_MODELS_DIR to their folder.",
        )


def copy_entry(root: Path, name: str, into: Path, max_upload_bytes: int) -> Artifact:
    """Copy an entry to `into`, which is created. Where the entry holds a single folder, that folder is copied instead.

    Returns the artifact that identifies its content. Raises BadInput or TooLarge for an entry that cannot be accepted,
    OSError.
    """
    top = root / name
    while len(inside := _visible(top)) == 1 and inside[0].is_dir():
        top = inside[0]
    into.mkdir(parents=True, mode=0o755)
    whole, rest, size_bytes = hashlib.sha256(), hashlib.sha256(), 0
    for path in sorted(_files(root, top)):
        place = path.relative_to(top)
        parts_of(str(place))
        size_bytes += path.stat().st_size
        if size_bytes > FACTOR * max_upload_bytes:
            raise TooLarge(
                f"`{name}` holds more than {FACTOR * max_upload_bytes >> 20} MiB.",
                hint=f"That is {FACTOR} times PRISM_MAX_UPLOAD_MB; raise it, or leave out what the model does not need.",
            )
        (into / place).parent.mkdir(parents=True, exist_ok=True)
        head = f"{place}\0{path.stat().st_size}\0".encode()
        whole.update(head)
        if str(place) == FILE_NAME and path.stat().st_size <= CONFIG_BYTES_MAX:
            _copy(path, into / place, whole)
            rest.update(_without_replicas((into / place).read_bytes()))
        else:
            rest.update(head)
            _copy(path, into / place, whole, rest)
    return Artifact(name, whole.hexdigest(), size_bytes, rest_sha256=rest.hexdigest())


def _without_replicas(config: bytes) -> bytes:
    """Return the configuration without its `replicas` line. A file that says nothing else counts as none."""
    return REPLICAS_LINE.sub(b"", config).strip()


def _copy(source: Path, target: Path, *digests: hashlib._Hash) -> None:
    descriptor = os.open(source.resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(COPY_BYTES):
            for digest in digests:
                digest.update(chunk)
            writing.write(chunk)


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in LEFT_OUT]
