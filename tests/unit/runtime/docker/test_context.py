"""What an image build is given."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from app.core.environment import Lock
from app.core.inspection import Format, Inspection
from app.core.model import Artifact, ModelVersion, PredictContract
from app.core.signature import Tensor
from app.runtime.docker.context import (
    NOBODY,
    model_dockerfile,
    write_environment_context,
    write_model_context,
)
from model_container.contract.config import RuntimeConfig
from tests.records import model_version, with_facts

LOCK = Lock(python="3.11", text="numpy==2.0.0\n")


def model(filename: str = "model.pkl", name: str = "iris") -> ModelVersion:
    return model_version(
        model_id="iris-1",
        name=name,
        version="1.0.0",
        artifact=Artifact(filename, "", 0),
        created_at="",
        lock=LOCK,
        inspection=Inspection(Format.PICKLE),
    )


def test_the_build_context_of_an_environment_holds_only_files(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir(mode=0o700)
    (tmp_path / "numpy" / "__init__.py").write_text("")
    context = io.BytesIO()
    write_environment_context(context, LOCK, "python:3.11-slim", tmp_path)
    with tarfile.open(fileobj=context) as tar:
        assert set(tar.getnames()) == {"Dockerfile", "packages", "packages/numpy", "packages/numpy/__init__.py"}
        assert tar.getmember("packages/numpy").mode == 0o755
        dockerfile = read(tar, "Dockerfile")
    steps = dockerfile.splitlines()
    copied, user, compiled = (
        steps.index(next(s for s in steps if s.startswith(word))) for word in ("COPY", "USER", "RUN")
    )
    assert copied < user < compiled, "nothing runs as root once the packages are there"
    assert steps[user] not in ("USER 0:0", f"USER {NOBODY}:{NOBODY}"), "a replica may not write to its packages"
    assert steps[compiled].startswith("RUN python -I -S -B -m compileall ")


def read(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(name)
    assert file
    return file.read().decode()


def as_docker_reads_it(quoted: str) -> str:
    """A double-quoted value of ENV: a backslash takes the next sign as it is."""
    out, signs = "", iter(quoted)
    for sign in signs:
        assert sign not in '"$'
        out += next(signs) if sign == "\\" else sign
    return out


@pytest.mark.parametrize("filename", ["model.pkl", 'a "b" $HOME \\ ${c}.pkl', "modèle.pkl"])
def test_any_filename_survives_the_quoting_of_a_dockerfile(filename: str) -> None:
    text = model_dockerfile(model(filename), "prism_env_x", "prism_model_iris-1", has_code=True)
    line = next(line for line in text.splitlines() if "PRISM_RUNTIME=" in line)
    config = RuntimeConfig.from_json(as_docker_reads_it(line.split('PRISM_RUNTIME="', 1)[1][:-1]))
    assert config.artifact == f"/opt/prism/artifact/{filename}"
    assert (config.host, config.port, config.token) == ("0.0.0.0", 8080, "")
    assert config.confinement.seccomp


def test_a_name_cannot_add_an_instruction_to_the_dockerfile() -> None:
    text = model_dockerfile(model(name="iris\nRUN id"), "prism_env_x", "prism_model_iris-1", has_code=False)
    assert not [line for line in text.splitlines() if line.startswith("RUN id")]
    assert "COPY code" not in text


def test_every_user_in_the_image_may_read_the_artifact(tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir(mode=0o700)
    (tmp_path / "artifact" / "model.pkl").write_bytes(b"artifact")
    (tmp_path / "artifact" / "model.pkl").chmod(0o600)
    (tmp_path / "code" / "__pycache__").mkdir(parents=True, mode=0o700)
    (tmp_path / "code" / "own.py").write_text("")
    context = io.BytesIO()
    write_model_context(context, "FROM x\n", model(), tmp_path)
    with tarfile.open(fileobj=context) as tar:
        entries = {entry.name: entry for entry in tar}
        assert read(tar, "artifact/model.pkl") == "artifact"
    assert {entry.mode for entry in entries.values()} == {0o755, 0o644}
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}
    assert entries["model_container/entrypoint.sh"].mode == 0o755
    assert "code/own.py" in entries
    assert not [name for name in entries if "__pycache__" in name]


def test_an_artifact_that_is_a_folder_goes_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "artifact" / "model" / "data").mkdir(parents=True)
    for name in ("model.py", "data/rates.json"):
        (tmp_path / "artifact" / "model" / name).write_text("x")
    folder = with_facts(
        model(),
        artifact=Artifact("tariff.zip", "", 0, main="model"),
        inspection=Inspection(Format.PYTHON),
        calling=PredictContract(batchable=True, inputs=(Tensor("age", "FP64", (-1,)),), source="model_config.yaml"),
    )
    dockerfile = model_dockerfile(folder, "prism_env_x", "prism_model_iris-1", has_code=False)
    line = next(line for line in dockerfile.splitlines() if "PRISM_RUNTIME=" in line)
    config = RuntimeConfig.from_json(as_docker_reads_it(line.split('PRISM_RUNTIME="', 1)[1][:-1]))
    assert (config.artifact, config.format) == ("/opt/prism/artifact/model", "python")
    assert config.call.inputs == [{"name": "age", "datatype": "FP64", "shape": [-1]}]
    assert config.call.batchable
    context = io.BytesIO()
    write_model_context(context, dockerfile, folder, tmp_path)
    with tarfile.open(fileobj=context) as tar:
        assert {"artifact/model/model.py", "artifact/model/data/rates.json"} <= set(tar.getnames())
