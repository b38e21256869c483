"""Common parts of every command: the options, the client, and the conversion of errors to messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import PrismError as LocalError
from prism import errors
from prism.cli.output import Output

if TYPE_CHECKING:
    from prism.client import Prism

OK, ERROR, USAGE, NOT_FOUND, UNHEALTHY, NOT_ALLOWED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="URL of the server; default: PRISM_URL, or the server on this machine."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--api-key-file", exists=True, dir_okay=False, help="File with the API key; default: PRISM_API_KEY."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings file; default: PRISM_CONFIG, or config.yaml in the home folder."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
NoInput = Annotated[
    bool, typer.Option("--no-input", help="Never prompt; without --yes, refuse what needs confirmation.")
]
Ref = Annotated[str, typer.Argument(metavar="REF", help="A model's name, name@version or model_id.")]


class Session:
    def __init__(self, output: Output, url: str | None, key_file: Path | None) -> None:
        self.output = output
        self._url = url
        self._key_file = key_file

    @cached_property
    def client(self) -> Prism:
        """Create the client on first use. It retries sooner than in a program, because a person is waiting."""
        from prism.cli.local_server import known_url
        from prism.client import Prism

        url = self._url or os.environ.get("PRISM_URL") or known_url()
        return Prism(url, self.key, backoff_seconds=0.1)

    @property
    def key(self) -> str | None:
        """Return the key of --api-key-file; None leaves the choice to PRISM_API_KEY."""
        return self._key_file.read_text().strip() if self._key_file else None

    @property
    def uses_key(self) -> bool:
        return bool(self._key_file or os.environ.get("PRISM_API_KEY"))

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()


@contextmanager
def session(
    as_json: bool = False, url: str | None = None, key_file: Path | None = None, config: Path | None = None
) -> Iterator[Session]:
    """Run a command. Foreseeable errors end it with a message and its exit code, never with a traceback.

    config: becomes PRISM_CONFIG, for this process and the server that it may start.
    """
    if config is not None:
        os.environ["PRISM_CONFIG"] = str(config.absolute())
    here = Session(Output(as_json), url, key_file)
    try:
        yield here
    except (errors.PrismError, LocalError) as error:
        here.output.error(error.problem())
        raise typer.Exit(exit_code(error)) from error
    except BrokenPipeError as error:
        # The reader of our output has closed it, as `head` does. Redirect what is left to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ERROR) from error
    except OSError as error:
        here.output.error({"detail": f"{error.filename}: {error.strerror}." if error.filename else str(error)})
        raise typer.Exit(ERROR) from error
    except KeyboardInterrupt as error:
        here.output.say("Interrupted.")
        raise typer.Exit(INTERRUPTED) from error
    finally:
        here.close()


def exit_code(error: Exception) -> int:
    match error:
        case errors.FileStopped():
            return exit_code(error.cause)
        case errors.NotFoundError():
            return NOT_FOUND
        case errors.AuthenticationError() | errors.PermissionDeniedError():
            return NOT_ALLOWED
        case errors.UnavailableError():
            return UNHEALTHY
        case errors.InvalidRequest():
            return USAGE
        case _:
            return ERROR
