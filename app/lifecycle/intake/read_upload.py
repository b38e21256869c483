"""Has an upload read, and puts its files where the model's will be.

The reader's answer is not trusted: whoever made the artifact may have made the answer too. So its paths are checked
like those in an archive, and what it unpacked is accepted only if it consists of plain files and folders.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from msgspec import Struct, structs

from app.artifact.archives.member import FACTOR, MEMBERS_MAX, parts_of, quoted
from app.core.contents import FOLDER, Contents
from app.core.folders import remove_folder
from app.core.inspection import Inspection
from app.core.model_config import ModelConfig
from app.core.reading import CodeQuestion, CodeReading, Question, Reading
from app.errors import UnreadableArtifact
from app.lifecycle.intake.readers import Readers
from app.lifecycle.intake.receive import Upload
from model_container.contract.config import MAIN_MODULES

STAGING: Final = "unpacked"
CODE: Final = "code"
"""The folder, below that of an upload, of its Python files."""

FOLDERS_MAX: Final = 10 * MEMBERS_MAX
SPECIAL_BITS: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class Inspected(Struct, frozen=True):
    """An upload that was read, its files in their places.

    inspection: what was read from the artifact, which took inspect_ms. contents: of an artifact that came as a folder;
    those of a single file say nothing. code: of the Python files that came with it.
    """

    upload: Upload
    inspection: Inspection
    contents: Contents
    inspect_ms: float
    code: CodeReading = CodeReading()

    @property
    def code_files(self) -> tuple[str, ...]:
        """The names at the top of the code folder, such as `train.py` and `src`."""
        return tuple(sorted({*self.upload.own_code, *self.code.names}))

    @property
    def with_code(self) -> Inspection:
        """The inspection of the artifact together with its code."""
        inspection, code = self.inspection, self.code
        if not code.places:
            return inspection
        pinned = {pin.distribution for pin in inspection.pins}
        return structs.replace(
            inspection,
            pins=(*inspection.pins, *(pin for pin in code.pins if pin.distribution not in pinned)),
            missing_code=code.missing,
            dangers=tuple(
                danger for danger in inspection.dangers if not danger.is_function or danger.name not in code.defined
            ),
            unknown_modules=tuple(sorted({*inspection.unknown_modules, *code.unknown_modules})),
            facts={**inspection.facts, **code.facts},
        )


async def read_upload(upload: Upload, readers: Readers, max_upload_bytes: int) -> Inspected:
    """Have an upload read, and put its files into their places. This may take seconds.

    Raises UnsupportedFormat, UnreadableArtifact, TooLarge, or BadInput for a file that came with the model.
    """
    staging, artifact = upload.folder / STAGING, upload.artifact
    async with readers.turn(upload.request_id, artifact.filename or upload.models_folder):
        began = monotonic()
        if upload.models_folder:
            reading = await readers.read(Question("folder", str(_model_folder(upload))))
        else:
            staging.mkdir(mode=0o700)
            path = str(upload.folder / artifact.file)
            try:
                reading = await readers.read(
                    Question("artifact", path, artifact.filename, str(staging), max_upload_bytes)
                )
                if reading.top is not None:
                    await asyncio.to_thread(_unfold, upload, staging, reading.top, FACTOR * max_upload_bytes)
            finally:
                with suppress(OSError):  # the rest is removed with the upload
                    await asyncio.to_thread(remove_folder, staging)
        placed = await asyncio.to_thread(_put_in_place, upload, reading)
        contents = reading.contents or Contents(ModelConfig())
        code = await _read_code(placed, reading.inspection, contents, readers)
        return Inspected(placed, reading.inspection, contents, (monotonic() - began) * 1000, code)


async def read_more_code(inspected: Inspected, upload: Upload, readers: Readers) -> Inspected:
    """Read the code of an upload again, to which files were added. Raises BadInput for one that cannot be read."""
    async with readers.turn(upload.request_id, upload.artifact.filename):
        code = await _read_code(upload, inspected.inspection, inspected.contents, readers)
    return structs.replace(inspected, upload=upload, code=code)


async def _read_code(upload: Upload, inspection: Inspection, contents: Contents, readers: Readers) -> CodeReading:
    if not upload.code_files and not upload.own_code:
        return CodeReading()
    question = CodeQuestion(upload.code_files, inspection.globals, inspection.missing_code, contents.python_version)
    folder = upload.folder / CODE
    reading = await readers.read_code(Question("code", str(folder), code=question))
    await asyncio.to_thread(_check_places, folder, reading)
    return reading


def _check_places(folder: Path, reading: CodeReading) -> None:
    """Raise UnreadableArtifact for places that no honest reader says: each is the end of the path of a file that is there."""
    for path, place in reading.places.items():
        parts = parts_of(path)
        if not folder.joinpath(*parts).is_file() or parts[-len(parts_of(place)) :] != parts_of(place):
            raise _lied(f"{quoted(path)} cannot become {quoted(place)}")
    if (
        len(set(reading.places.values())) < len(reading.places)
        or not reading.definitions.keys() <= reading.places.keys()
    ):
        raise _lied("it puts two code files in one place")


def place_code(inspected: Inspected) -> None:
    """Put the code files where they are imported from, and leave of scripts their definitions alone.

    The folder is made anew beside the old one, which it then replaces. Does nothing if that was done before.
    """
    folder, reading = inspected.upload.folder / CODE, inspected.code
    if not reading.places or (folder / MAIN_MODULES).exists():
        return
    made = folder.with_name(f"{CODE}.placed")
    remove_folder(made)
    made.mkdir(mode=0o700)
    for path, place in reading.places.items():
        target = made.joinpath(*parts_of(place))
        target.parent.mkdir(parents=True, exist_ok=True)
        if path in reading.definitions:
            target.write_text(reading.definitions[path], encoding="utf-8")
        else:
            shutil.copy(folder.joinpath(*parts_of(path)), target)
    for file in sorted(folder.rglob("*")):  # what is no Python, such as data of a package, stays beside it
        target = made / file.relative_to(folder)
        if file.is_file() and file.suffix != ".py" and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (made / MAIN_MODULES).write_text("".join(f"{module}\n" for module in reading.mains), encoding="utf-8")
    remove_folder(folder)
    made.rename(folder)


def _model_folder(upload: Upload) -> Path:
    return upload.folder / "artifact" / FOLDER


def _unfold(upload: Upload, staging: Path, top: str, max_bytes: int) -> None:
    """Replace the archive by what it held."""
    check_unpacked(staging, max_bytes)
    source = staging.joinpath(*parts_of(top))
    if source == staging or not source.is_dir():
        raise _lied(f"{quoted(top)} is not one of its folders")
    (upload.folder / upload.artifact.file).unlink()
    source.rename(_model_folder(upload))


def check_unpacked(folder: Path, max_bytes: int) -> None:
    """Check an unpacked folder.

    Raises UnreadableArtifact for anything but plain files and folders, or for too many of them.
    """
    files = folders = size_bytes = 0
    for path, status in _entries(folder):
        parts_of(str(path.relative_to(folder)))
        if status.st_mode & SPECIAL_BITS or not (stat.S_ISDIR(status.st_mode) or _is_plain(status)):
            raise _lied(f"{quoted(path.name)} is not a plain file")
        files, folders = files + stat.S_ISREG(status.st_mode), folders + stat.S_ISDIR(status.st_mode)
        size_bytes += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if files > MEMBERS_MAX or folders > FOLDERS_MAX or size_bytes > max_bytes:
            raise _lied(f"it holds more than {MEMBERS_MAX} files, or {max_bytes >> 20} MiB")


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything below a folder. No link is followed."""
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                yield Path(entry.path), status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(Path(entry.path))


def _put_in_place(upload: Upload, reading: Reading) -> Upload:
    """Move the code files of what came as a folder, and return the upload with them and the folder's main file."""
    contents = reading.contents
    if contents is None:
        return upload
    folder = _model_folder(upload)
    parts = parts_of(contents.file)
    if contents.file and not folder.joinpath(*parts).is_file():
        raise _lied(f"{quoted(contents.file)} is not one of its files")
    names = _code(upload.folder / CODE, folder, contents, reading.code)
    return structs.replace(
        upload, artifact=structs.replace(upload.artifact, main="/".join((FOLDER, *parts))), own_code=names
    )


def _code(code: Path, folder: Path, contents: Contents, names: tuple[str, ...]) -> tuple[str, ...]:
    """Move the .py files that the model file needs to the folder `code`, and return their names.

    A model that is a folder keeps its own.
    """
    if not contents.file:
        return ()
    if contents.mlflow is not None and contents.mlflow.code:
        return _copy_code(folder.joinpath(*parts_of(contents.mlflow.code)), code)
    for name in names:
        if len(parts_of(name)) != 1 or not (folder / name).exists():
            raise _lied(f"{quoted(name)} is not one of its code files")
    if names:
        _move_code(names, folder, code)
    return names


def _move_code(names: tuple[str, ...], source: Path, code: Path) -> None:
    """Move code files to where the owner's uploaded code is; an uploaded file of the same name wins."""
    code.mkdir(exist_ok=True)
    for name in names:
        if not (code / name).exists():
            (source / name).rename(code / name)


def _copy_code(source: Path, code: Path) -> tuple[str, ...]:
    """Copy a whole folder that is declared as code. Returns the names at its top level."""
    if not source.is_dir():
        raise _lied(f"{quoted(source.name)} is not one of its folders")
    code.mkdir(exist_ok=True)
    names = sorted(path.name for path in source.iterdir())
    for name in names:
        if (code / name).exists():
            continue
        if (source / name).is_dir():
            shutil.copytree(source / name, code / name)
        else:
            shutil.copy(source / name, code / name)
    return tuple(names)


def _lied(what: str) -> UnreadableArtifact:
    return UnreadableArtifact(
        f"The inspection result does not fit the artifact: {what}.",
        hint="Save the model again and upload it again.",
    )
