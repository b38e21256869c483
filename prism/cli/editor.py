"""Opens a text in the user's editor."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from app.errors import NotFound, PrismError
from prism.cli.user_environment import user_environment

USUAL = ("nano", "vim", "vi")


class EditorFailed(PrismError):
    """The editor did not end well: what it left is not to be used."""


def edited(text: str, path: Path) -> str:
    """Return the text as the user leaves it, edited in a file of its own that no other user can read.

    path: of the file that it is for; the editor gets its name. Raises NotFound, EditorFailed.
    """
    command = _editor(path)
    with TemporaryDirectory(prefix="prism-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(text.encode())
        try:
            code = subprocess.run([*command, str(copy)], env=user_environment(), check=False).returncode
        except OSError as error:
            raise EditorFailed(f"{command[0]} cannot be started: {error.strerror}.", hint="Set EDITOR.") from error
        if code:
            raise EditorFailed(f"{command[0]} ended with exit code {code}; {path} is as it was.", hint="Try again.")
        try:
            return copy.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise EditorFailed(
                f"{command[0]} left no text that can be read.", hint="Save the file as UTF-8."
            ) from error


def _editor(path: Path) -> list[str]:
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        words = shlex.split(chosen)
    except ValueError as error:
        raise NotFound(f"EDITOR={chosen!r} is no command: {error}.", hint="Set it like EDITOR=nano.") from error
    if words:
        return words
    if sys.stdin.isatty() and (found := next((program for name in USUAL if (program := shutil.which(name))), None)):
        return [found]
    raise NotFound("No editor can be opened here.", hint=f"Set EDITOR, or use `prism config set`. The file is {path}.")
