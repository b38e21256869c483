from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import BuildFailed
from app.runtime.packages.audit import MAX_RECORD_BYTES, MAX_RECORD_LINES, check

DISTUTILS_PRECEDENCE = (
    "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
    "enabled and __import__('_distutils_hack').add_shim(); \n"
)


def environment(folder: Path, *brought: str, listed: bool = True, content: str = "x") -> Path:
    """Create an environment with the distribution `evilpkg`. brought: its files, relative to the packages folder."""
    packages = folder / "lib" / "python3.11" / "site-packages"
    for name in ("evilpkg/__init__.py", *brought):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(content)
    (folder / "lib64").symlink_to("lib")
    record = packages / "evilpkg-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text(
        "".join(f'"{name}",sha256=x,1\n' for name in ("evilpkg/__init__.py", *(brought if listed else ())))
    )
    return packages


@pytest.mark.parametrize(
    "brought",
    [
        "evilpkg.pth",
        "distutils-precedence.pth",
        "sitecustomize.py",
        "sitecustomize.pyc",
        "usercustomize.cpython-311-x86_64-linux-gnu.so",
        "usercustomize/__init__.py",
        "../../../pyvenv.cfg",
        "../../../bin/pyvenv.cfg",
        "../../../bin/python",
        "../../../bin/Python3.11",
        "../../../bin/python3-config",
    ],
)
def test_a_file_that_would_run_at_python_startup_is_refused_with_its_package_named(
    tmp_path: Path, brought: str
) -> None:
    environment(tmp_path, brought)

    with pytest.raises(BuildFailed, match=r"^evilpkg 1\.0 contains "):
        check(tmp_path, "3.11")


def test_a_startup_file_that_no_record_lists_is_refused_too(tmp_path: Path) -> None:
    environment(tmp_path, "evilpkg.pth", listed=False)

    with pytest.raises(
        BuildFailed, match=r"does not list it in its RECORD contains lib/python3\.11/site-packages/evilpkg\.pth"
    ):
        check(tmp_path, "3.11")


@pytest.mark.parametrize(
    "brought", ["evilpkg/model.pth", "evilpkg/sitecustomize.py", "../../../bin/python-argcomplete"]
)
def test_files_that_python_ignores_are_accepted(tmp_path: Path, brought: str) -> None:
    environment(tmp_path, brought)

    check(tmp_path, "3.11")


def test_the_pth_of_setuptools_is_known_by_its_content(tmp_path: Path) -> None:
    environment(tmp_path, "distutils-precedence.pth", content=DISTUTILS_PRECEDENCE)

    check(tmp_path, "3.11")


@pytest.mark.parametrize("target", ["/etc", "/etc/passwd", "../../../../..", "/nowhere/at/all"])
def test_a_link_that_leads_out_is_refused(tmp_path: Path, target: str) -> None:
    (environment(tmp_path, "evilpkg/out", listed=True) / "evilpkg" / "out").unlink()
    (tmp_path / "lib" / "python3.11" / "site-packages" / "evilpkg" / "out").symlink_to(target)

    with pytest.raises(BuildFailed, match=r"^evilpkg 1\.0 contains .*evilpkg/out, a link that leads out"):
        check(tmp_path, "3.11")


def test_a_link_within_the_environment_is_accepted(tmp_path: Path) -> None:
    (environment(tmp_path) / "evilpkg" / "libx.so").symlink_to("libx.so.1")

    check(tmp_path, "3.11")


@pytest.mark.parametrize("hostile", ["a folder", "a field without an end", "too many lines", "too many bytes"])
def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path, hostile: str) -> None:
    record = environment(tmp_path) / "evilpkg-1.0.dist-info" / "RECORD"
    if hostile == "a folder":
        record.unlink()
        record.mkdir()
    else:
        record.write_text(
            {
                "a field without an end": '"' + "x" * 200_000,
                "too many lines": "a,,\n" * (MAX_RECORD_LINES + 1),
                "too many bytes": ("a" * 1000 + ",,\n") * (MAX_RECORD_BYTES // 1000),
            }[hostile]
        )

    with pytest.raises(BuildFailed, match=r"RECORD of evilpkg 1\.0 cannot be read"):
        check(tmp_path, "3.11")


def test_a_record_of_a_file_outside_is_refused(tmp_path: Path) -> None:
    packages = environment(tmp_path)
    with (packages / "evilpkg-1.0.dist-info" / "RECORD").open("a") as record:
        record.write("../../../../outside.txt,,\n")

    with pytest.raises(BuildFailed, match=r"^evilpkg 1\.0 contains \.\./outside\.txt"):
        check(tmp_path, "3.11")
