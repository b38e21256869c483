"""Write docs/settings.md from app/settings.py, so that the page cannot say anything else.

.venv/bin/python scripts/settings_page.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.settings import Settings, variable

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

HEAD = """\
# Settings

A setting is read from the command line of `prism run`, else from its environment variable, else from the file
`config.yaml`, else it has its default. If a value is invalid, the server does not start and prints one line that names the
setting, the value and the reason. Relative paths start from `PRISM_HOME`, and `~` is your own folder.

## config.yaml

```yaml
serving:
  port: 9000
  single_active_model: false
  admin_keys: ${MY_ADMIN_KEYS}      # a variable of the environment
```

- It lies in the home folder (`prism config get home` shows which), or where `PRISM_CONFIG` or `--config FILE` says.
- Below `serving:`, each setting has its name in lower case: the second column of the table. Values are written as in
  the environment. A key without a value keeps its default; several keys or hosts are separated by commas.
- `${NAME}` stands for a variable of the environment. One that is not set stops the start, which names it. `$${` is
  written for the two characters themselves.
- A key that does not exist stops the start, with the nearest name that does. The sections of the LLM gateway
  (`providers:`, `routing:` and so on) are known already: this version warns that it does not serve them yet.

| | |
| --- | --- |
| `prism config get` | every setting that a server started now would have, and where it comes from; `prism config get port` only one |
| `prism config set port 9000` | checks the value, then changes that one line; comments and everything else stay as they are |
| `prism config unset port` | takes that line out again, so that the setting has its default |
| `prism config edit` | opens the file in your editor, and keeps the result only if it has no mistake |
| `prism config check` | names every mistake with its line |

Secrets (keys, tokens) are never printed and never an argument, which every user of the machine can see: `prism config set
admin_keys` asks for the value, or reads it from standard input. The file is written whole or not at all, and only you can
read it.

**What lasts.** `prism config set port 9000` is for every run to come; `prism run 9000` is for that run alone. Either way
the other commands find the server where it listens: it writes its address to `server.json` in the home folder. A server
that runs keeps the settings it started with. `prism run` and `prism config set` then list what a restart would change,
and the command for it: `prism stop --keep-models && prism run` where the models can run on, `prism stop && prism run`
where they must start again, too. A server with another home or file is reached with the same `PRISM_HOME` or
`PRISM_CONFIG`; `run`, `stop`, `status`, `doctor` and `config` take `--config`, too.

## All settings

| variable | in config.yaml | default | what it does |
| --- | --- | --- | --- |
"""
FOOT = "\nThis page is written by `scripts/settings_page.py` from `app/settings.py`; a test compares them.\n"


def page() -> str:
    rows = (
        f"| `{variable(name)}` | `{name}` | {default(field)} | {meaning(field)} |\n"
        for name, field in Settings.model_fields.items()
    )
    return HEAD + "".join(rows) + FOOT


def default(field: FieldInfo) -> str:
    """Return the default as written in a shell; for a computed default, the docstring of its function."""
    if field.default is PydanticUndefined:
        return (field.default_factory.__doc__ or "").strip().removesuffix(".")
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`" if str(field.default) else "unset"


def meaning(field: FieldInfo) -> str:
    choices = ""
    if get_origin(field.annotation) is Literal:
        choices = " One of " + ", ".join(f"`{choice}`" for choice in get_args(field.annotation)) + "."
    return f"{field.description}{choices}".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
