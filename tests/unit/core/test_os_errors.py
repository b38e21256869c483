"""What the operating system refuses, as the problem that its caller is told."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from app.core.os_errors import as_problem, log_fields, problem_in, problem_of, purpose
from app.errors import DiskFull, NotFound, PrismError, StorageFailed, StorageReadOnly, TooManyOpenFiles


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [
        (errno.ENOSPC, DiskFull, 507),
        (errno.EDQUOT, DiskFull, 507),
        (errno.EROFS, StorageReadOnly, 507),
        (errno.EIO, StorageFailed, 507),
        (errno.EMFILE, TooManyOpenFiles, 503),
        (errno.ENFILE, TooManyOpenFiles, 503),
    ],
)
def test_each_storage_error_is_a_problem_with_a_next_step(
    number: int, kind: type[PrismError], status: int, tmp_path: Path
) -> None:
    error = problem_of(OSError(number, "words", str(tmp_path / "secret-folder" / "keys.json")))
    assert type(error) is kind
    assert error.status == status
    assert "the API keys" in error.detail
    assert error.hint
    assert "secret-folder" not in str(error.problem())
    assert ("Retry-After" in error.headers) is (status == 503)


def test_a_full_disk_is_reported_with_the_free_space_and_how_to_free_more(tmp_path: Path) -> None:
    error = problem_of(OSError(errno.ENOSPC, "words", str(tmp_path / "not" / "there" / ".containers.json.abc")))
    assert isinstance(error, DiskFull)
    assert "the registry" in error.detail
    assert error.values["free_bytes"] > 0
    assert "prism rm" in error.hint
    assert "uv cache prune" in error.hint


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "x"), PermissionError(13, "x"), ConnectionResetError(104, "x"), TimeoutError(), OSError("x")],
)
def test_other_errors_are_not_storage_errors(error: OSError) -> None:
    assert problem_of(error) is None
    assert type(as_problem(error)) is PrismError


def test_any_exception_gets_a_message() -> None:
    ours = NotFound("gone")
    assert as_problem(ours) is ours
    assert as_problem(ValueError("odd")).detail == "ValueError: odd"


def test_an_error_inside_a_copy_error_is_recognised_by_its_text() -> None:
    several = shutil.Error([("a", "b", "[Errno 2] No such file"), ("c", "d", "[Errno 28] No space left on device")])
    assert isinstance(problem_of(several), DiskFull)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("error: failed to copy: No space left on device (os error 28)", DiskFull),
        ("write /var/lib/docker/tmp: no space left on device", DiskFull),
        ("Too many open files (os error 24)", TooManyOpenFiles),
        ("cannot open: Read-only file system", StorageReadOnly),
        ("No such file (os error 2): no solution found", type(None)),
    ],
)
def test_storage_errors_in_the_output_of_other_programs_are_recognised(words: str, kind: type[object]) -> None:
    assert type(problem_in(words)) is kind


def test_the_log_keeps_the_number_and_the_path() -> None:
    fields = log_fields(OSError(errno.ENOSPC, "No space left on device", "/data/keys.json"))
    assert (fields["errno"], fields["path"]) == ("ENOSPC", "/data/keys.json")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/x/uploads/0123456789ab/artifact/model.pkl", "a model's file"),
        ("/x/uploads/0123456789ab/.model.json.q1w2", "the record of a model"),
        ("/x/environments/abc/lib/python3.11/foo.py", "an environment"),
        ("/x/run/0123456789ab/0badcafe/work", "the folder of a replica"),
        ("/elsewhere/thing", "required data"),
    ],
)
def test_a_path_is_described_by_its_content(path: str, told: str) -> None:
    assert purpose(Path(path)) == told
