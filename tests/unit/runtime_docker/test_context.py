"""What an image build is given."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from app.core.environment import Lock
from app.core.inspection import Format, Inspection
from app.core.model import Artifact, Model
from app.runtime.docker_context import (
    IndexFiles,
    index_files,
    model_dockerfile,
    write_environment_context,
    write_model_context,
)
from app.runtime.package_index import PackageIndex, translate
from model_container.config import RuntimeConfig

LOCK = Lock(python="3.11", text="numpy==2.0.0\n")


def model(filename: str = "model.pkl", name: str = "iris") -> Model:
    return Model(
        model_id="iris-1",
        name=name,
        version="1.0.0",
        artifact=Artifact(filename, "", 0),
        created_at="",
        lock=LOCK,
        inspection=Inspection(Format.PICKLE),
    )


def exports(files: IndexFiles) -> dict[str, str]:
    lines = files.files["index.env"].decode().splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


def test_an_index_of_pip_reaches_both_uv_and_the_pip_that_installs_uv(tmp_path: Path) -> None:
    index = translate({"PIP_INDEX_URL": "https://me:pw@index.test/simple", "PIP_TRUSTED_HOST": "index.test"}, {})
    found = exports(index_files(index, tmp_path))
    assert found["UV_DEFAULT_INDEX"] == found["PIP_INDEX_URL"] == "https://me:pw@index.test/simple"
    assert found["UV_INSECURE_HOST"] == found["PIP_TRUSTED_HOST"] == "index.test"


def test_pip_gets_the_url_of_an_index_that_uv_knows_by_name(tmp_path: Path) -> None:
    found = exports(index_files(PackageIndex({"UV_INDEX": "own=https://index.test/a?b=c"}), tmp_path))
    assert found["UV_INDEX"] == "'own=https://index.test/a?b=c'"
    assert found["PIP_EXTRA_INDEX_URL"] == "'https://index.test/a?b=c'"


def test_places_on_this_machine_are_left_out_and_named(tmp_path: Path) -> None:
    variables = {
        "UV_FIND_LINKS": "/opt/wheels,https://links.test/",
        "UV_INDEX": "file:///opt/index own=file:///opt/own https://index.test/simple",
        "UV_CACHE_DIR": "/cache",
    }
    files = index_files(PackageIndex(variables), tmp_path)
    assert set(files.left_out) == {"/opt/wheels", "file:///opt/index", "own=file:///opt/own"}
    found = exports(files)
    assert found["UV_FIND_LINKS"] == "https://links.test/"
    assert found["UV_INDEX"] == "https://index.test/simple"
    assert "UV_CACHE_DIR" not in found


def test_the_private_ca_and_the_netrc_go_as_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("authority")
    (tmp_path / ".netrc").write_text("machine index.test")
    files = index_files(PackageIndex({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}), tmp_path)
    assert files.files["ssl_cert_file"] == b"authority"
    assert files.files["netrc"] == b"machine index.test"
    found = exports(files)
    assert found["SSL_CERT_FILE"] == found["PIP_CERT"] == "/prism/ssl_cert_file"
    assert found["NETRC"] == "/prism/netrc"


@pytest.mark.parametrize(
    ("variables", "needed"),
    [
        ({"UV_DEFAULT_INDEX": "http://me:pw@127.0.0.1:3141/simple"}, True),
        ({"UV_INDEX": "https://index.test/simple own=http://localhost/simple"}, True),
        ({"https_proxy": "http://[::1]:3128"}, True),
        ({"UV_DEFAULT_INDEX": "https://index.test/127.0.0.1"}, False),
        ({"no_proxy": "localhost,127.0.0.1"}, False),
    ],
)
def test_an_index_or_proxy_on_loopback_needs_the_hosts_network(
    tmp_path: Path, variables: dict[str, str], needed: bool
) -> None:
    assert index_files(PackageIndex(variables), tmp_path).needs_host_network is needed


def test_values_with_shell_signs_stay_values(tmp_path: Path) -> None:
    found = exports(index_files(PackageIndex({"UV_DEFAULT_INDEX": "https://a:$(id)'@index.test/"}), tmp_path))
    assert found["UV_DEFAULT_INDEX"] == """'https://a:$(id)'"'"'@index.test/'"""


def test_no_credential_stands_in_the_dockerfile_of_an_environment(tmp_path: Path) -> None:
    files = index_files(PackageIndex({"UV_DEFAULT_INDEX": "https://me:pw@index.test/"}), tmp_path)
    context = io.BytesIO()
    write_environment_context(context, LOCK, "python:3.11-slim", files)
    with tarfile.open(fileobj=context) as tar:
        dockerfile = read(tar, "Dockerfile")
        assert {"prism/index.env", "prism/lock.txt", "prism/install.sh"} <= set(tar.getnames())
    assert "pw" not in dockerfile
    assert "ARG" not in dockerfile
    assert dockerfile.count("FROM python:3.11-slim") == 2


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


def test_whoever_owns_the_model_here_any_user_may_read_it_there(tmp_path: Path) -> None:
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
