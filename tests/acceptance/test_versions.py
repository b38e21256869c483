"""A model is served by the scikit-learn that saved it, not by the one that happens to be here."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from app.errors import BuildFailed
from app.runtime.packages.uv import run_uv
from tests.acceptance.conftest import StartServer

OLD = "1.5.2"
TRAIN = """
import sys, joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
x, y = load_iris(return_X_y=True)
joblib.dump(RandomForestClassifier(5, random_state=0).fit(x, y), sys.argv[1])
"""


def test_a_model_of_an_older_scikit_learn_is_served_by_that_one(start_server: StartServer, tmp_path: Path) -> None:
    python = tmp_path / "old" / "bin" / "python"

    async def install() -> None:
        for arguments in (
            ["venv", "--python", "3.11", str(python.parent.parent)],
            ["pip", "install", "--python", str(python), f"scikit-learn=={OLD}", "numpy<2", "joblib"],
        ):
            await run_uv(arguments, log=lambda line: None, timeout_seconds=300, error=BuildFailed)

    asyncio.run(install())
    file = tmp_path / "forest.joblib"
    subprocess.run([python, "-c", TRAIN, file], check=True)
    server = start_server(PRISM_TARGET="process")
    model = server.deploy(file, model_name="forest")
    assert model["runtime"]["libraries"]["scikit-learn"] == OLD
    assert model["runtime"]["libraries"]["numpy"].startswith("1.")
    pins = {pin["distribution"]: pin["specifier"] for pin in model["environment"]["pins"]}
    assert pins["scikit-learn"] == f"=={OLD}"
    assert pins["numpy"] == "<2"
    assert server.predict("forest", [[5.1, 3.5, 1.4, 0.2]]).json()["predictions"] == [0]
