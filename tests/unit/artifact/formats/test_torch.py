"""What PyTorch's archives tell, made here as PyTorch makes them, without it."""

from __future__ import annotations

import collections
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.artifact.inspection import inspect
from app.core.inspection import Format
from app.errors import MissingCode, UnreadableArtifact
from app.lifecycle.intake.refusals import refusals_of


class Storage:
    """Stands for a tensor's content, which is pickled as an id."""


class TensorPickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return ("storage", "FloatStorage", "0", "cpu", 4) if isinstance(value, Storage) else None


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1",)


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    TensorPickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def archive(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as file:
        for member, content in members.items():
            file.writestr(f"{path.stem}/{member}", content)
    return path


WEIGHTS = {"data.pkl": pickled(collections.OrderedDict(weight=Storage())), "version": b"3\n", "data/0": b"0" * 16}
GRAPH = {
    "graph_module": {
        "signature": {
            "input_specs": [{"parameter": {}}, {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
        }
    }
}


def test_a_script_needs_pytorch_and_imports_nothing(tmp_path: Path) -> None:
    members = {**WEIGHTS, "constants.pkl": pickled(()), "code/__torch__.py": b"class M(Module): ..."}
    found = inspect(archive(tmp_path, "m.pt", members), "m.pt")
    assert (found.format, found.globals, found.dangers, found.missing_code) == (Format.TORCHSCRIPT, (), (), ())
    assert [pin.distribution for pin in found.pins] == ["torch", "pillow"]


def test_weights_without_a_module_need_its_code(tmp_path: Path) -> None:
    found = inspect(archive(tmp_path, "m.pt", WEIGHTS), "m.pt")
    assert (found.format, found.facts["holds"], found.dangers) == (Format.TORCH, "weights", ())
    assert found.missing_code == ("model.build_model",)
    (refusal,) = refusals_of(found, allow_unsafe=False)
    assert isinstance(refusal, MissingCode)
    assert "weights of a PyTorch module and not the module" in refusal.detail


def test_a_whole_module_is_judged_as_any_pickle(tmp_path: Path) -> None:
    found = inspect(archive(tmp_path, "m.pt", {**WEIGHTS, "data.pkl": pickled([Storage(), Runs()])}), "m.pt")
    assert [danger.name for danger in found.dangers] == ["builtins.eval"]


def test_an_exported_program_names_its_inputs_and_every_pickle_in_it_is_judged(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("archive/data.pkl", pickled(Runs()))
    members = {
        "archive_format": b"pt2",
        "models/model.json": json.dumps(GRAPH).encode(),
        "data/weights/weight_0": b"0" * 16,
    }
    plain = inspect(archive(tmp_path, "m.pt2", members), "m.pt2")
    assert (plain.format, plain.facts["graph_inputs"], plain.dangers) == (Format.TORCH_EXPORT, "x", ())
    assert [pin.requirement for pin in plain.pins] == ["torch", "pillow"]
    for place in ("data/sample_inputs/model.pt", "data/weights/weight_1"):
        found = inspect(archive(tmp_path, "n.pt2", {**members, place: inner.getvalue()}), "n.pt2")
        assert [danger.name for danger in found.dangers] == ["builtins.eval"], place


@pytest.mark.parametrize(
    ("saved_by", "requirement"),
    [
        ("2.13.0+cpu", "torch>=2.13.0"),
        ("2.9.0a0+git1", "torch>=2.9.0"),
        ("; rm -rf /", "torch"),
        ("", "torch"),
    ],
)
def test_an_exported_program_needs_the_pytorch_that_saved_it_or_a_later_one(
    tmp_path: Path, saved_by: object, requirement: str
) -> None:
    graph = json.dumps({**GRAPH, "torch_version": saved_by}).encode()
    found = inspect(archive(tmp_path, "m.pt2", {"archive_format": b"pt2", "models/model.json": graph}), "m.pt2")
    assert [pin.requirement for pin in found.pins] == [requirement, "pillow"]


@pytest.mark.parametrize(
    "members",
    [
        {"archive_format": b"pt2"},
        {"archive_format": b"pt2", "models/model.json": b"{"},
        {"archive_format": b"pt2", "models/model.json": b"{}"},
        {**WEIGHTS, "data.pkl": WEIGHTS["data.pkl"][:-5]},
        {**WEIGHTS, "data.pkl": WEIGHTS["data.pkl"] + b"more"},
    ],
)
def test_an_incomplete_archive_is_rejected(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(UnreadableArtifact):
        inspect(archive(tmp_path, "m.pt2", members), "m.pt2")


def test_tensor_ids_are_rejected_outside_a_torch_archive(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(WEIGHTS["data.pkl"])
    with pytest.raises(UnreadableArtifact, match="persistent ids") as refused:
        inspect(tmp_path / "m.pkl", "m.pkl")
    assert "torch.jit.save" in refused.value.hint
