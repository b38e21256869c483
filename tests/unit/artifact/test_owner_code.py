"""Code files are put where the model imports them from; scripts are reduced to what the model takes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.artifact.owner_code import read_code
from app.core.inspection import MODULE_OF_WEIGHTS
from app.core.reading import CodeQuestion, CodeReading
from app.errors import BadInput

CLASS = "class Scaler:\n    def predict(self, rows):\n        return rows\n"
TRAINING = f"import pandas as pd\n\ndata = pd.read_csv('x')\n{CLASS}\nScaler().predict(data)\n"


def read(
    folder: Path, files: dict[str, str], *names: str, sent: bool = True, missing: tuple[str, ...] = ()
) -> CodeReading:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return read_code(folder, CodeQuestion(tuple(files) if sent else (), (*names, *missing), missing))


@pytest.mark.parametrize(
    ("sent", "imported", "place"),
    [
        ("src/features.py", "src.features.scale", "src/features.py"),
        ("src/features.py", "features.scale", "features.py"),
        ("work/project/src/features.py", "src.features.scale", "src/features.py"),
        ("features.py", "features.scale", "features.py"),
        ("src/features.py", "features:Outer.Inner", "features.py"),
        ("src/features/__init__.py", "src.features.scale", "src/features/__init__.py"),
        ("lib/features/__init__.py", "features.scale", "features/__init__.py"),
        ("src/features.py", "sklearn.svm.SVC", "features.py"),
    ],
)
def test_a_file_is_put_where_the_model_imports_it_from(tmp_path: Path, sent: str, imported: str, place: str) -> None:
    assert read(tmp_path, {sent: "def scale(x): ..."}, imported).places == {sent: place}


def test_a_folder_keeps_together(tmp_path: Path) -> None:
    files = {
        "proj/src/__init__.py": "",
        "proj/src/features.py": "from src.deep import tools",
        "proj/src/deep/tools.py": "",
    }
    found = read(tmp_path, files, "src.features.scale")
    assert set(found.places.values()) == {"src/__init__.py", "src/features.py", "src/deep/tools.py"}
    assert found.names == ("src",)
    assert found.unknown_modules == ()


def test_what_the_files_import_of_each_other_decides_where_the_model_does_not(tmp_path: Path) -> None:
    files = {"work/train.py": f"from helpers import one\n{CLASS}", "work/helpers.py": "one = 1"}
    found = read(tmp_path, files, missing=("__main__.Scaler",))
    assert found.places == {"work/train.py": "train.py", "work/helpers.py": "helpers.py"}


def test_files_of_the_models_own_folder_stay_where_they_are(tmp_path: Path) -> None:
    assert read(tmp_path, {"src/features.py": ""}, "features.scale", sent=False).places == {
        "src/features.py": "src/features.py"
    }


def test_of_a_training_script_the_definitions_are_used_and_the_page_says_so(tmp_path: Path) -> None:
    found = read(tmp_path, {"train.py": TRAINING}, missing=("__main__.Scaler",))
    assert found.missing == ()
    assert "read_csv" not in found.definitions["train.py"]
    assert "class Scaler" in found.definitions["train.py"]
    assert found.pins == (), "what only the training needs is not installed"
    assert found.facts == {"code of train.py": "`Scaler` and what they use; the rest of the script does not run"}


def test_what_only_the_main_program_of_a_script_defines_is_taken_out_of_it(tmp_path: Path) -> None:
    block = "".join(f"    {line}\n" for line in CLASS.splitlines())
    script = f"import pandas\n\nif __name__ == '__main__':\n{block}    Scaler().predict(pandas.read_csv('x'))\n"
    found = read(tmp_path, {"train.py": script}, missing=("__main__.Scaler",))
    assert found.missing == ()
    namespace: dict[str, Any] = {"__name__": "train"}
    exec(found.definitions["train.py"], namespace)
    assert namespace["Scaler"]().predict([1]) == [1]
    assert found.pins == ()


def test_the_module_of_weights_may_be_defined_in_a_block(tmp_path: Path) -> None:
    script = "import torch\ntry:\n    class Net(torch.nn.Module): ...\nfinally:\n    train()\n"
    found = read(tmp_path, {"train.py": script}, missing=(MODULE_OF_WEIGHTS,))
    assert "class Net" in found.definitions["train.py"]


def test_a_module_that_runs_nothing_is_used_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, {"steps.py": CLASS}, missing=("__main__.Scaler",)).definitions == {}


def test_what_other_files_take_from_a_script_stays_in_it(tmp_path: Path) -> None:
    files = {"train.py": f"{TRAINING}def helper(): ...\n", "more.py": "from train import helper\n"}
    assert "def helper" in read(tmp_path, files, missing=("__main__.Scaler",)).definitions["train.py"]
    files["more.py"] = "import train\n"
    found = read(tmp_path, files, missing=("__main__.Scaler",)).definitions["train.py"]
    assert "def helper" in found
    assert "read_csv" not in found


def test_what_no_file_defines_stays_missing(tmp_path: Path) -> None:
    missing = ("__main__.Other", "__main__:Scaler.Inner", "__main__.Scaler")
    assert read(tmp_path, {"train.py": TRAINING}, missing=missing).missing == ("__main__.Other",)


def test_the_code_of_weights_is_the_script_with_a_module(tmp_path: Path) -> None:
    script = "import torch\nclass Net(torch.nn.Module): ...\ntorch.save(Net().state_dict(), 'm.pt')\n"
    found = read(tmp_path, {"train.py": script}, missing=(MODULE_OF_WEIGHTS,))
    assert "torch.save" not in found.definitions["train.py"]
    assert [pin.distribution for pin in found.pins] == ["torch"]
    assert found.missing == ()


def test_what_the_files_import_is_needed_too(tmp_path: Path) -> None:
    source = "import os, pandas\nimport acme.tools\nfrom . import near\ndef f():\n    import never, scipy\n"
    found = read(tmp_path, {"features.py": source}, "features.f")
    assert [(pin.distribution, pin.evidence) for pin in found.pins] == [
        ("pandas", "features.py imports `pandas`"),
        ("scipy", "features.py imports `scipy`"),
    ]
    assert found.unknown_modules == ("acme",)


def test_two_files_for_one_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"`steps\.py`"):
        read(tmp_path, {"a/steps.py": CLASS, "b/steps.py": CLASS}, "steps.Scaler")


def test_each_folder_sent_is_placed_by_itself(tmp_path: Path) -> None:
    found = read(tmp_path, {"lib/features.py": "", "src/prep.py": ""}, "features.A", "src.prep.B")
    assert set(found.places.values()) == {"features.py", "src/prep.py"}


def test_a_sent_file_takes_the_place_of_one_of_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text("x = 1")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "features.py").write_text("x = 2")
    found = read_code(tmp_path, CodeQuestion(("src/features.py",), ("features.A",), ()))
    assert found.places == {"src/features.py": "features.py"}


NET = "import torch\nfrom {blocks} import Block\nclass Net(torch.nn.Module): ...\nsave(Net())\n"
BLOCKS = "import torch\nclass Block(torch.nn.Module): ...\ntorch.manual_seed(0)\n"


@pytest.mark.parametrize("blocks", ["src.blocks", ".blocks"])
def test_of_several_modules_of_pytorch_the_outermost_is_the_one_that_weights_belong_to(
    tmp_path: Path, blocks: str
) -> None:
    files = {"src/net.py": NET.format(blocks=blocks), "src/blocks.py": BLOCKS}
    found = read(tmp_path, files, missing=(MODULE_OF_WEIGHTS,))
    assert found.places == {"src/net.py": "src/net.py", "src/blocks.py": "src/blocks.py"}
    assert found.mains == ("src.net",)
    assert list(found.definitions) == ["src/net.py"], "what another file imports is used whole"


def test_a_factory_makes_the_module_of_weights(tmp_path: Path) -> None:
    files = {"a.py": BLOCKS, "b.py": "def build_model(): ...\n"}
    assert read(tmp_path, files, missing=(MODULE_OF_WEIGHTS,)).mains == ("b",)


def test_a_namesake_deeper_down_is_left_alone(tmp_path: Path) -> None:
    files = {"train.py": TRAINING, "src/features.py": f"{CLASS}class Other: ...\n"}
    found = read(tmp_path, files, "src.features.Other", missing=("__main__.Scaler",))
    assert found.mains == ("train",)
    assert found.places["src/features.py"] == "src/features.py"
    assert list(found.definitions) == ["train.py"]


def test_what_nothing_imports_may_be_anything_and_asks_for_nothing(tmp_path: Path) -> None:
    files = {
        "src/features.py": "import scipy\n",
        "src/train.py": "import acme_tracking, pandas\nraise SystemExit('it ran')\n",
        "src/template.py": 'print "x"',
        "src/tests/test_a.py": "import pytest_of_mine\n",
    }
    found = read(tmp_path, files, "src.features.f")
    assert found.mains == ()
    assert found.unknown_modules == ()
    assert [pin.distribution for pin in found.pins] == ["scipy"]


def test_a_module_of_a_sent_package_that_is_not_there_is_missing(tmp_path: Path) -> None:
    assert read(tmp_path, {"src/__init__.py": ""}, "src.features.A").missing == ("src.features",)
    assert read(tmp_path, {"src/features/__init__.py": ""}, "src.features:A.B").missing == ()


def test_source_may_declare_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes(
        "# coding: latin-1\nX = 'é'\nclass Scaler:\n    x = X\nrun()\n".encode("latin-1")
    )
    found = read_code(tmp_path, CodeQuestion(("train.py",), (), ("__main__.Scaler",)))
    assert "X = 'é'" in found.definitions["train.py"]


def test_many_files_are_read_in_linear_time(tmp_path: Path) -> None:
    files = {f"m{number}.py": f"import m{number + 1}\n{CLASS}x()\n" for number in range(400)}
    names = tuple(f"__main__.C{number}" for number in range(50))
    assert len(read(tmp_path, files, "m0.x", missing=names).places) == 400


def test_source_that_is_not_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train\.py is not Python"):
        read(tmp_path, {"train.py": "class Scaler(:"}, missing=("__main__.Scaler",))


def test_what_the_files_define_is_told_from_what_they_import(tmp_path: Path) -> None:
    source = f"from os import system\nimport numpy as np\ndef scale(x): ...\n{CLASS}\ndef logs(x): ...\nlogs = system\n"
    names = ("features.scale", "features.Scaler", "features.system", "features.logs", "features.np", "other.scale")
    assert read(tmp_path, {"features.py": source}, *names).defined == ("features.scale", "features.Scaler")
