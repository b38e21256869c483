"""Makes the models of the table in docs/formats.md in the folder where it runs, and says what each answers in memory.

Reads rows from standard input as JSON: the file or folder that is pushed, the line of Python that saves it, and what is
sent to the model, or null. Writes {file: answer} to standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from tests.acceptance.images_lab import png
from tests.acceptance.pushed_models.kinds import MAKERS, Made
from tests.acceptance.pushed_models.own_code import SCRIPTS, Script

LIBRARIES = (
    *("cloudpickle", "joblib", "json", "pickle", "keras", "mlflow.pyfunc", "mlflow.sklearn", "numpy", "onnx", "pandas"),
    *("skl2onnx", "skops.io", "torch", "torch.export", "torch.jit", "torch.onnx"),
)
RUN = """
import json, runpy, sys
model = runpy.run_path(sys.argv[1], run_name="__main__")["model"]
json.dump(model.predict(json.loads(sys.argv[2])), sys.stdout, default=lambda array: array.tolist())
"""


def by_maker(maker: Any, saved: str, sent: Any) -> Any:
    made: Made = maker()
    libraries = {name: import_module(name) for name in LIBRARIES if re.search(rf"\b{re.escape(name)}\b", saved)}
    tops = {name.partition(".")[0]: sys.modules[name.partition(".")[0]] for name in libraries}
    exec(saved, {**tops, **made.names})
    return None if sent is None else made.answer(sent)


def by_script(script: Script, saved: str, sent: Any) -> Any:
    for name, content in {**script.imports, script.name: f"{script.text}\n{saved}\n"}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    sent = sent["features"] if isinstance(sent, dict) else sent
    done = subprocess.run(
        [sys.executable, "-c", RUN, script.name, json.dumps(sent)],
        env={**os.environ, "TRAINING": "1", "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def write_seven() -> Any:
    """Write seven.png. Returns its pixels, (8, 8), from 0 to 16."""
    grey = np.round(load_digits().images[7] * 255 / 16).astype(np.uint8)
    Path("seven.png").write_bytes(png(grey))
    return grey / 255 * 16


def answers(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    seven = write_seven()
    said = {}
    for row in rows:
        pushed, saved, sent = row["pushed"], row["saved"], row["sent"]
        sent = {"image": seven} if sent == "seven.png" else sent
        if pushed in SCRIPTS:
            said[pushed] = by_script(SCRIPTS[pushed], saved, sent)
        else:
            said[pushed] = by_maker(MAKERS[pushed], saved, sent)
    return said


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for module in (
        "boosters",
        "folders",
        "refused",
        "series",
        "tabular",
        *(["networks"] if find_spec("torch") else []),
    ):
        import_module(f"tests.acceptance.pushed_models.{module}")
    with contextlib.redirect_stdout(sys.stderr):
        said = answers(json.load(sys.stdin))
    json.dump(said, sys.stdout, default=lambda value: np.asarray(value).tolist())
