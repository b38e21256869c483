"""Questions to a reader, the confined child that reads artifacts, and the answers that it may give."""

from __future__ import annotations

import errno
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Raw, Struct

from app.core.contents import Contents
from app.core.inspection import Inspection, Pin

ANSWER_BYTES_MAX: Final = 4 << 20
"""Most bytes of one answer, everything that an artifact says of itself. Real models take some kilobytes."""

CODE_FILES_MAX: Final = 1000
"""Most Python files that may come with a model."""

STORAGE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
"""Numbers of an OSError for which the artifact is not to blame."""

DETAIL_MAX: Final = 4000
"""Most characters of a reader's refusal, and of its hint."""


class CodeQuestion(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model wants of the Python files that came with it.

    sent: paths of those files that its owner sent; the others came in its own folder. names: its imports, as in
    `Inspection.globals`. missing: names that it takes from `__main__`. python_version: the one it is for, "" if unknown.
    """

    sent: tuple[str, ...]
    names: tuple[str, ...]
    missing: tuple[str, ...]
    python_version: str = ""


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to read.

    what: an artifact, whose format its content decides; an entry of the models folder ("folder"); the model_config.yaml
    of such an entry ("config"); whether a file is a whole ONNX file ("onnx"); or a folder of Python files that came with
    a model ("code"). path: where it is. filename: the name that its owner gave it. staging: an empty folder into which
    an archive is unpacked, the only place that the reader may write to; "" for none. The others are for code, see
    CodeQuestion.
    """

    what: Literal["artifact", "folder", "config", "onnx", "code"]
    path: str
    filename: str = ""
    staging: str = ""
    max_upload_bytes: int = 0
    code: CodeQuestion | None = None


class Reading(Struct, frozen=True, forbid_unknown_fields=True):
    """The result of reading an artifact or a folder.

    top: where in the staging folder the model's own folder is; None if nothing was unpacked.
    code: names at the top of the model's folder that loading it imports.
    """

    inspection: Inspection
    contents: Contents | None = None
    top: str | None = None
    code: tuple[str, ...] = ()


class CodeReading(Struct, frozen=True, forbid_unknown_fields=True):
    """The Python files that came with a model, as they are used.

    places: file → where it belongs to be imported, e.g. `lib/src/features.py` → `src/features.py`. mains: the modules
    that define what the model takes from `__main__`. definitions: script → its definitions alone, which take its place.
    missing: what the model imports and no file defines. defined: those of its imports that are functions and classes of
    these files themselves, not imported from elsewhere. pins, unknown_modules: what the files import. facts: what is worth showing of them.
    """

    places: dict[str, str] = {}
    mains: tuple[str, ...] = ()
    definitions: dict[str, str] = {}
    missing: tuple[str, ...] = ()
    defined: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()
    unknown_modules: tuple[str, ...] = ()
    facts: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The files and packages at the top of the code folder, such as `train.py` and `src`."""
        return tuple(sorted({place.partition("/")[0] for place in self.places.values()}))


class Refusal(Struct, frozen=True, forbid_unknown_fields=True):
    """A PrismError as it crosses the pipe. code: names its class."""

    code: Literal["bad_input", "unsupported_format", "unreadable_artifact", "too_large"]
    detail: Annotated[str, Meta(max_length=DETAIL_MAX)]
    hint: Annotated[str, Meta(max_length=DETAIL_MAX)] = ""
    values: dict[str, Any] = {}


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """The answer of a reader. One of three is given: found, refusal or errno.

    found: JSON of what was asked for. refusal: why there is none. errno: the error of the disk, one of STORAGE.
    missing: sandbox layers that the kernel did not grant.
    """

    found: Raw = Raw(b"null")
    refusal: Refusal | None = None
    errno: int = 0
    missing: tuple[str, ...] = ()


class Task(Struct, frozen=True, forbid_unknown_fields=True):
    """A question with the limits of the reader that answers it. file_mb: limit of each file that it writes."""

    question: Question
    memory_mb: int
    file_mb: int
