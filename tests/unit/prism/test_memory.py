"""What is sent of a model in memory: itself, and the source of what a session defines for it."""

from __future__ import annotations

import json
import pickletools
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from prism.errors import InvalidRequest
from prism.memory import serialised
from tests.unit.imports_lab import ROOT

REPORT = """

import json, sys
from prism.errors import InvalidRequest
from prism.memory import serialised
try:
    file, code = serialised(model)
    print(json.dumps([file.name, {getattr(one, "name", "") and str(one.name): one.read().decode() if hasattr(one, "read") else "" for one in code}]))
except InvalidRequest as error:
    print(json.dumps(["refused", str(error)]))
"""


def session(folder: Path, source: str) -> Any:
    """Run source as a script, and return what would be sent of its `model`."""
    (folder / "session_of_mine.py").write_text(source + REPORT)
    return ran(folder, "session_of_mine.py")


def ran(folder: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


SCRIPT = '''
import math as m
from collections import Counter
from json import dumps as write

RATES = {"low": 0.5, "high": [1, 2]}
SECRET = "not for anyone"


class Base:
    """Never named by the pickle."""


def rate(x):
    return RATES["low"] * m.sqrt(x)


class Model(Base):
    def predict(self, rows):
        return [rate(row) for row in rows] + [write(Counter(rows))]


model = Model()
model.name = "a"
'''


def test_source_comes_with_what_it_uses_and_nothing_else(tmp_path: Path) -> None:
    name, code = session(tmp_path, SCRIPT)
    assert name == "Model.pkl"
    text = code["session.py"]
    for kept in ("import math as m", "from collections import Counter", "from json import dumps as write", "RATES = {"):
        assert kept in text
    assert "SECRET" not in text
    assert "model.name" not in text
    assert text.index("class Base") < text.index("class Model"), "a base class is defined first"
    namespace: dict[str, Any] = {"__name__": "session"}
    exec(text, namespace)
    assert namespace["Model"]().predict([4]) == [1.0, '{"4": 1}']


def test_a_notebook_has_no_file_and_its_cells_do(tmp_path: Path) -> None:
    notebook = (
        "import linecache, sys\n"
        "def cell(number, source):\n"
        "    name = f'<ipython-input-{number}>'\n"
        "    linecache.cache[name] = (len(source), None, source.splitlines(True), name)\n"
        "    exec(compile(source, name, 'exec'), vars(sys.modules['__main__']))\n"
        "cell(1, 'import math\\nLIMIT = 3\\n')\n"
        "cell(2, 'def root(x):\\n    return math.sqrt(x) + LIMIT\\n')\n"
        "cell(3, 'x = 1\\nclass Model:\\n    def predict(self, rows):\\n        return [root(row) for row in rows]\\n')\n"
        "model = Model()\n"
    )
    _, code = ran(tmp_path, "-c", notebook + REPORT)
    namespace: dict[str, Any] = {"__name__": "session"}
    exec(code["session.py"], namespace)
    assert namespace["Model"]().predict([4]) == [5.0]


IN_BLOCKS = '''
import sys

if not sys.argv:
    class Model:
        def predict(self, rows):
            return "of the branch that did not run"
else:
    class Model:
        """Text
at the beginning of a line."""

        def predict(self, rows):
            return [scaled(row) for row in rows]

try:
    import a_module_of_nobody as fast
    print("fast")
except ImportError:
    fast = None

for FACTOR in (2, 3):
    def scaled(x):
        return x * FACTOR if fast is None else 0

if __name__ == "__main__":
    class Last(Model):
        limit = 1

    model = Last()
'''


def test_definitions_in_blocks_are_sent_as_they_were_run(tmp_path: Path) -> None:
    _, code = session(tmp_path, IN_BLOCKS)
    namespace: dict[str, Any] = {"__name__": "session"}
    exec(code["session.py"], namespace)
    assert namespace["Last"]().predict([1, 2]) == [3, 6]
    assert namespace["Model"].__doc__ == "Text\nat the beginning of a line."


REGISTERED = """
from __future__ import annotations

import decimal
from functools import singledispatch
from json import dumps


@singledispatch
def area(shape):
    return 0


class Square:
    side = 3


@area.register
def _(shape: Square):
    return shape.side * unit()


@area.register(int)
@area.register(float)
def _(shape):
    return "number"


def of_none(shape):
    return "none"


area.register(type(None), of_none)
area.register(decimal.Decimal, dumps)
area.register(list)(of_none)


def unit():
    return 2


class Model:
    def predict(self, rows):
        return [area(row) for row in rows]


model = Model()
"""


def test_what_a_function_calls_for_each_type_is_sent_with_it(tmp_path: Path) -> None:
    _, code = session(tmp_path, REGISTERED)
    module = ModuleType("session")
    exec(code["session.py"], vars(module))
    rows = [object(), module.Square(), 1, 0.5, None, []]
    assert module.Model().predict(rows) == [0, 6, "number", "number", "none", "none"]
    assert "area.register(decimal.Decimal, dumps)" in code["session.py"]


def test_what_the_session_registers_with_a_function_of_a_module_is_sent(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(
        "from functools import singledispatch\n@singledispatch\ndef area(shape):\n    return 0\n"
        "@area.register\ndef _(shape: str):\n    return 'of the module'\n"
    )
    source = (
        "from shapes import area\n@area.register\ndef _(shape: int):\n    return 'of the session'\n"
        "class Model:\n    def predict(self, rows):\n        return [area(row) for row in rows]\nmodel = Model()\n"
    )
    _, code = session(tmp_path, source)
    assert code["session.py"].count("register") == 1
    assert "of the session" in code["session.py"]


def test_modules_of_ones_own_are_sent_as_files_with_those_that_they_import(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tools.py").write_text("import more\nclass Model: ...\n")
    (tmp_path / "more.py").write_text("import json\n")
    source = "from mine.tools import Model\nmodel = Model()\n"
    report = REPORT.replace("print(json.dumps([file.name,", "print(json.dumps([sorted(str(one) for one in code),")
    found, _ = ran(tmp_path, "-c", source + report.replace('one.read().decode() if hasattr(one, "read") else ""', '""'))
    assert [Path(path).name for path in found] == ["mine", "more.py"]


NAMES = """
import enum, functools, logging, re, xml.etree.ElementTree
from collections import namedtuple
from typing import Optional, TypeVar
import numpy as np
from numpy import log1p

T = TypeVar("T")
log = logging.getLogger("mine")
pattern = re.compile("a+", re.I)
inf = float("inf")
half = np.float64(0.5)
Maybe = Optional[int]


@functools.lru_cache
def cached(x):
    return x + 1


class Base:
    pass


Alias = Base


class Model(Alias):
    limit = inf

    def predict(self, rows: "list[T]"):
        log.debug("x")
        xml.etree.ElementTree.fromstring("<a/>")
        return [cached(row) + float(half) + float(log1p(0)) + len(pattern.findall("aAb")) for row in rows]


model = Model()
"""


def test_what_modules_keep_at_their_top_is_written_anew(tmp_path: Path) -> None:
    _, code = session(tmp_path, NAMES)
    namespace: dict[str, Any] = {"__name__": "session"}
    exec(code["session.py"], namespace)
    assert namespace["Model"]().predict([1]) == [3.5]
    assert namespace["Model"].__mro__[1] is namespace["Base"]
    assert "__main__" not in code["session.py"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import random\nr = random.Random(1)\nclass Model:\n    x = r.random()\nmodel = Model()\n", "uses `r`"),
        ("class Model:\n    pass\nmodel = Model()\nmodel.f = lambda x: x\n", "cannot be pickled"),
        (
            "import io\nlog = io.StringIO()\ndef predict(rows):\n    log.write('x')\nmodel = predict\n",
            "`predict` uses `log`",
        ),
    ],
)
def test_what_cannot_be_sent_is_named(tmp_path: Path, source: str, words: str) -> None:
    kind, text = session(tmp_path, source)
    assert kind == "refused"
    assert words in text


def test_what_was_typed_has_no_source(tmp_path: Path) -> None:
    typed = "exec('class Model:\\n    pass\\n')\nmodel = Model()\n"
    kind, text = ran(tmp_path, "-c", typed + REPORT)
    assert kind == "refused"
    assert "source of `Model` is not known" in text


def test_an_estimator_is_pickled_and_needs_no_code() -> None:
    from sklearn.linear_model import LinearRegression

    file, code = serialised(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]))
    assert (file.name, code) == ("LinearRegression.pkl", [])
    assert any("sklearn" in str(argument) for _, argument, _ in pickletools.genops(file.read()))


def test_an_onnx_graph_is_saved_as_onnx() -> None:
    import onnx

    graph = onnx.helper.make_graph([], "empty", [], [])
    file, code = serialised(onnx.helper.make_model(graph))
    assert (file.name, code) == ("ModelProto.onnx", [])
    assert onnx.load_model_from_string(file.read()).graph.name == "empty"


def test_a_local_function_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidRequest, match="cannot be pickled"):
        serialised(lambda rows: rows)
