"""`prism config get`, `set`, `unset`, `edit`, `check`: the settings of this machine's server, and the file that keeps them.

No secret is printed, nor taken as an argument, which every user of the machine can see.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.errors import InvalidSetting, NotFound, PrismError
from prism.cli import local_server
from prism.cli.editor import edited
from prism.cli.help import Group, examples
from prism.cli.output import Output, printable, table
from prism.cli.server import say_changes
from prism.cli.session import ERROR, Config, Json, session

if TYPE_CHECKING:
    from app.config.document import Problem
    from app.settings import Settings

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def settings_of_a_server_here() -> None:
    """Read, change and check the settings of this machine's server."""
    with session():
        local_server.require_installed()


Setting = Annotated[str, typer.Argument(metavar="SETTING", help="Its name, such as port or model_memory_mb.")]


@app.command("get", epilog=examples("prism config get", "prism config get port"))
def get_settings(
    setting: Annotated[str | None, typer.Argument(metavar="[SETTING]", help="Its name; default: all.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the settings that a server started now would have, and where each comes from. Secrets stay hidden."""
    from app.config.loading import sources
    from app.config.recorded import shown

    with session(as_json, config=config) as here:
        wanted = _field(setting) if setting is not None else None
        settings, origins = local_server.settings(), sources()
        rows = [(field, shown(settings, field), str(origin)) for field, origin in origins.items()]
        documents = {field: {"value": value, "source": source} for field, value, source in rows}
        if wanted:
            here.output.data({"setting": wanted, **documents[wanted]}, printable(documents[wanted]["value"]))
        else:
            here.output.data(documents, table(("SETTING", "VALUE", "FROM"), rows))


@app.command("set", epilog=examples("prism config set port 9000", "prism config set single_active_model false"))
def set_setting(
    setting: Setting,
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="Its value; default: typed, or from standard input.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write one setting to config.yaml, once it is checked. The rest of the file stays as it is."""
    from app.config.edit import with_value
    from app.config.loading import config_path
    from app.config.writing import change

    with session(as_json, config=config) as here:
        field = _field(setting)
        written = _value(field, value)
        _check(field, written)
        path = config_path()
        change(path, lambda text: with_value(text, field, written))
        here.output.data({"setting": field, "config": str(path)}, f"{field} is set in {path}.")
        _say_what_follows(here.output, field)


@app.command("unset", epilog=examples("prism config unset port"))
def unset_setting(setting: Setting, config: Config = None, as_json: Json = False) -> None:
    """Take one setting out of config.yaml, so that it has its default again. The rest of the file stays as it is."""
    from app.config.edit import without_value
    from app.config.loading import config_path
    from app.config.reading import read_text
    from app.config.writing import change

    with session(as_json, config=config) as here:
        field = _field(setting)
        path = config_path()
        before = read_text(path)
        if before is not None:
            change(path, lambda text: None if text is None else without_value(text, field))
        changed = read_text(path) != before
        told = f"{field} is no longer set in {path}." if changed else f"{field} is not set in {path}."
        here.output.data({"setting": field, "config": str(path), "changed": changed}, told)
        _say_what_follows(here.output, field)


@app.command(epilog=examples("prism config edit"))
def edit(config: Config = None, as_json: Json = False) -> None:
    """Open config.yaml in your editor (VISUAL, EDITOR), and keep the result if it has no mistake."""
    from app.config.checks import problems
    from app.config.loading import config_path
    from app.config.reading import read_text

    with session(as_json, config=config) as here:
        path = config_path()
        text = read_text(path)
        new = edited(text if text is not None else "serving:\n  # port: 8000\n", path)
        while wrong := [one for one in problems(new, os.environ) if not one.is_warning]:
            here.output.say(_report(wrong))
            if not (sys.stdin.isatty() and typer.confirm("Edit it again?", default=True, err=True)):
                raise InvalidSetting(f"{path} is as it was: the new text has mistakes.", hint="Edit it once more.")
            new = edited(new, path)
        _replace(path, text, new)
        here.output.data(
            {"config": str(path), "changed": new != text}, f"{path} is {'as it was' if new == text else 'saved'}."
        )
        _say_what_follows(here.output)


@app.command(epilog=examples("prism config check", "prism config check --json"))
def check(config: Config = None, as_json: Json = False) -> None:
    """Check config.yaml and name every mistake with its line. Exit code 1: there is one."""
    from app.config.checks import problems
    from app.config.document import Problem
    from app.config.loading import VARIABLE, config_path, set_in_environment
    from app.config.reading import read_text

    with session(as_json, config=config) as here:
        path = config_path()
        text = read_text(path)
        if text is None and os.environ.get(VARIABLE):
            raise NotFound(f"{path} does not exist.", hint="Make it: `prism config set port 8000`.")
        found = problems(text or "", os.environ, set_in_environment())
        if all(one.is_warning for one in found):
            found += _conflicts()
        if text is not None and path.stat().st_mode & 0o077 and _holds_secret(text):
            found.append(Problem(0, "other users may read this file, which has keys in it", f"chmod 600 {path}", True))
        here.output.data(
            {"config": str(path), "problems": [_document(one) for one in found]}, _checked(path, text, found)
        )
        if any(not one.is_warning for one in found):
            raise typer.Exit(ERROR)


def _field(name: str) -> str:
    """Return the setting that a name means: `port`, `serving.port` or PRISM_PORT. Raises InvalidSetting."""
    from app.config.document import nearest
    from app.settings import Settings, field_of

    plain = name.removeprefix("serving.")
    if field := field_of(plain.lower()) or field_of(plain.upper()):
        return field
    meant = nearest(plain, Settings.model_fields)
    hint = f"Did you mean `{meant}`?" if meant else "`prism config get` lists all settings."
    raise InvalidSetting(f"{printable(name[:60])} is no setting.", hint=hint)


def _value(field: str, argument: str | None) -> str:
    """Return the value of the argument, typed, or of standard input. Raises InvalidSetting for a secret argument."""
    from app.settings import is_secret

    if argument is None and sys.stdin.isatty():
        return str(typer.prompt(field, hide_input=is_secret(field), err=True))
    if argument is None:
        return sys.stdin.readline().rstrip("\r\n")
    if is_secret(field) and argument and not (argument.startswith("${") and argument.endswith("}")):
        raise InvalidSetting(
            f"{field} is not taken as an argument, which every user of this machine can see.",
            hint=f"Type it: `prism config set {field}`. Or name a variable: '${{MY_KEYS}}'.",
        )
    return argument


def _check(field: str, written: str) -> None:
    """Raise InvalidSetting if the value is none for the setting."""
    from app.config.loading import mistakes
    from app.config.loading import written as as_settings
    from app.config.reading import BadReference, expand
    from app.runtime.targets import allowed_targets

    try:
        value = expand(written, os.environ)
    except BadReference as error:
        raise InvalidSetting(
            f"{field}: {error}.", hint="Set it here as well, or write it by `prism config edit`."
        ) from error
    if reason := mistakes({field: value}).get(field):
        raise InvalidSetting(f"{field}{reason}.", hint="Nothing was written.")
    allowed_targets(as_settings({field: value}))


def _replace(path: Path, before: str | None, after: str) -> None:
    """Write the edited text. Raises Conflict if the file has changed since it was opened in the editor."""
    from app.config.writing import change, changed_meanwhile

    def replaced(text: str | None) -> str:
        if text != before:
            raise changed_meanwhile(path)
        return after

    change(path, replaced)


def _say_what_follows(output: Output, field: str = "") -> None:
    """Say why a server would not start with these settings, or what a restart would change of the one that runs.

    field: the setting that was changed, if it was one; a variable that wins over the file is named, too.
    """
    from app.config.loading import set_in_environment
    from app.settings import variable

    if field in set_in_environment():
        output.say(f"{variable(field)} is set here, and wins over the file: unset it.")
    try:
        settings = _startable()
    except PrismError as error:
        output.say(f"A server would not start with this: {error}")
        return
    if record := local_server.running(settings.run_folder):
        say_changes(output, local_server.changes(record, settings))


def _startable() -> Settings:
    """Return the settings that a server started now would have. Raises PrismError if it would not start."""
    from app.prepare import require_admin_key

    settings = local_server.settings()
    require_admin_key(settings)
    return settings


def _conflicts() -> list[Problem]:
    """Return why no server would start although every value is right by itself."""
    from app.config.document import Problem

    try:
        _startable()
    except PrismError as error:
        return [Problem(0, error.detail.rstrip("."), error.hint)]
    return []


def _holds_secret(text: str) -> bool:
    from app.config.document import read_document
    from app.settings import Settings, is_secret

    entries = read_document(text, Settings.model_fields).entries
    return any(is_secret(entry.key) and entry.value and not entry.value.startswith("${") for entry in entries)


def _checked(path: Path, text: str | None, found: list[Problem]) -> str:
    if text is None:
        return f"There is no {path}; all settings have their defaults, or come from the environment."
    return f"{path}\n{_report(found)}" if found else f"{path} is correct."


def _report(found: list[Problem]) -> str:
    return "\n".join(f"  {printable(_told(one))}" for one in found)


def _told(problem: Problem) -> str:
    place = f"line {problem.line}: " if problem.line else ""
    return f"{place}{'warning: ' if problem.is_warning else ''}{problem.message}. {problem.hint}".rstrip()


def _document(problem: Problem) -> dict[str, Any]:
    level = "warning" if problem.is_warning else "error"
    return {"line": problem.line, "level": level, "message": problem.message, "hint": problem.hint}
