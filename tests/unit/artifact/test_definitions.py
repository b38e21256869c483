"""Definitions are taken out of a script: what they need comes along, and nothing else of the script does."""

from __future__ import annotations

import ast
import sys
from textwrap import indent
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.artifact.definitions import EVERYTHING, Definitions, definitions_of, runs_nothing

SCRIPT = """\
import pandas as pd
import numpy as np, os
from helpers import clean
from tools import *

RATE = 0.5
LIMITS = {"low": RATE, "high": np.array([1, 2])}
frame = pd.read_csv("train.csv")  # the body


def unused(rows):
    return pd.DataFrame(rows)


def scaled(x):
    return clean(x) * LIMITS["low"]


class Base:
    pass


@staticmethod
def decorated(): ...


class Model(Base):
    def predict(self, rows):
        return [scaled(row) for row in rows]

    def columns(self):
        return frame.columns


model = Model()
model.fit(frame)
if __name__ == "__main__":
    os.system("rm -rf /")
"""


def taken(*wanted: str, script: str = SCRIPT) -> Definitions:
    return definitions_of(script, ast.parse(script), wanted)


def test_what_a_class_uses_comes_along_and_the_rest_of_the_script_does_not() -> None:
    found = taken("Model")
    assert found.names == ("Base", "Model", "scaled")
    assert found.computed == ("frame",)
    for gone in ("read_csv", "unused", "decorated", "rm -rf", "model.fit", "import pandas"):
        assert gone not in found.source
    for kept in (
        "import numpy as np, os",
        "from helpers import clean",
        "from tools import *",
        "RATE = 0.5",
        "LIMITS =",
    ):
        assert kept in found.source
    lines = found.source.split("\n")
    assert lines[SCRIPT.split("\n").index("class Model(Base):")] == "class Model(Base):", "line numbers stay"


def test_decorators_defaults_and_bases_are_used_too() -> None:
    script = (
        "import functools\nfrom abc import ABC\nSIZE = 3\ndef log(f):\n    return f\n"
        "@log\n@functools.wraps(log)\ndef f(x=SIZE):\n    return x\nclass A(ABC):\n    size = SIZE\nprint(1)\n"
    )
    assert "print" not in taken("f", "A", script=script).source
    namespace: dict[str, object] = {}
    exec(taken("f", "A", script=script).source, namespace)
    assert namespace["A"].size == namespace["f"]() == 3  # type: ignore[attr-defined, operator]


@pytest.mark.parametrize(
    "script",
    [
        "try:\n    import orjson as json\nexcept ImportError:\n    import json\ndef f():\n    return json\nrun()\n",
        "import sys\nif sys.version_info > (3, 0):\n    import json\nelse:\n    json = None\ndef f():\n    return json\nrun()\n",
        "from __future__ import annotations\nimport json\ndef f(x: Frame = None):\n    return json\nrun()\n",
        "def f():\n    import json\n    return json\nrun(); x = 1\n",
        "import json; run()\ndef f(): return json\n",
    ],
)
def test_imports_are_kept_however_they_are_written(script: str) -> None:
    namespace: dict[str, object] = {}
    exec(taken("f", script=script).source, namespace)
    assert namespace["f"]().__name__ in ("json", "orjson")  # type: ignore[operator]


def test_a_local_variable_is_not_the_one_that_the_script_computes() -> None:
    assert taken("f", script="df = load()\ndef f(df):\n    return [df for df in df]\n").computed == ()


def test_everything_that_is_defined_can_be_asked_for() -> None:
    found = taken(*EVERYTHING)
    assert found.names == ("Base", "Model", "decorated", "scaled", "unused")
    assert "read_csv" not in found.source
    assert found.computed == ("frame",)


@pytest.mark.parametrize(
    ("script", "nothing"),
    [
        ('"""A module."""\nimport os\nX = {1: os.sep}\nclass A: ...\nif __name__ == "__main__":\n    A()\n', True),
        ("class A: ...\nA()\n", False),
        ("x = open('f').read()\n", False),
        ("for x in range(3): pass\n", False),
        ('if __name__ == "__main__":\n    class Wanted: ...\n', False),
        ('def f():\n    return RATE\nif __name__ == "__main__":\n    RATE = 1\n', False),
        ('def f():\n    rate = 1\n    return rate\nif __name__ == "__main__":\n    rate = f()\n', True),
        ("", True),
    ],
)
def test_a_module_that_only_defines_is_told_from_a_script(script: str, nothing: bool) -> None:
    assert runs_nothing(ast.parse(script), {"Wanted"}) is nothing


@pytest.mark.parametrize(
    ("script", "value"),
    [
        ("X = ['a']\nX += ['b']\nX.append('c')\nrun()\ndef f():\n    return X\n", ["a", "b", "c"]),
        ("X = {}\nX['a'] = 1\nX.update(b=2)\nrun()\ndef f():\n    return X\n", {"a": 1, "b": 2}),
        ("import math\nX = math.sqrt(4)\nrun()\ndef f():\n    return X\n", 2.0),
        ("X = 'a b'.split()\nrun()\ndef f():\n    return X\n", ["a", "b"]),
        ("import warnings\nwith warnings.catch_warnings():\n    X = 1\nrun()\ndef f():\n    return X\n", 1),
        ("X = 1\nclass A:\n    X = X\nrun()\ndef f():\n    return A.X\n", 1),
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
            "@dataclass\nclass A:\n    x: int = 7\n    n: ClassVar[int] = 3\nrun()\ndef f():\n    return A(1).n\n",
            3,
        ),
        (
            "REG = {}\ndef reg(c):\n    REG[c.__name__] = c\n    return c\n@reg\nclass A: ...\nrun()\ndef f():\n    return [*REG]\n",
            ["A"],
        ),
    ],
)
def test_what_is_used_has_the_value_that_the_whole_script_gives_it(
    script: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("script_of_this_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = taken("f", script=script)
    exec(found.source, vars(module))
    assert module.f() == value
    assert found.computed == ()
    assert "run()" not in found.source


IN_BLOCKS = [
    'if __name__ == "__main__":\n    RATE = 3\n    def f():\n        return RATE\n    run()\n',
    'if __name__ == "__main__":\n    if args():\n        import math\n    def f():\n        return math.floor(3.5)\n    run()\n',
    "args = parse()\nif args.big:\n    def f():\n        return 3\n    run()\n",
    "if big():\n    import math\nelse:\n    run()\ndef f():\n    return math.floor(3.5)\n",
    "RATE = 3\nfor seed in range(3):\n    class A:\n        x = RATE\n    run(A(), seed)\ndef f():\n    return A.x\n",
    "while run():\n    class A:\n        x = 3\ndef f():\n    return A.x\n",
    "with start() as run:\n    RATE = 3\n    def f():\n        return RATE\n    run()\n",
    "try:\n    import none_of_these as math\n    run(math)\nexcept ImportError:\n    math = None\n"
    "def f():\n    return math or 3\n",
    "try:\n    run()\n    class A:\n        x = 3\nfinally:\n    run()\ndef f():\n    return A.x\n",
    "import sys\nif sys.version_info < (3,):\n    x = 2\n    run()\nelse:\n    x = 3\n    run()\ndef f():\n    return x\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from none import Frame\ndef f(x: 'Frame' = 3):\n    return x\nrun()\n",
]


@pytest.mark.parametrize("script", IN_BLOCKS)
def test_definitions_are_taken_out_of_blocks_that_do_more(script: str) -> None:
    found = taken("f", script=script)
    namespace: dict[str, Any] = {"__name__": "train"}
    exec(found.source, namespace)
    assert namespace["f"]() == 3
    assert found.computed == ()
    assert "run(" not in found.source


def test_what_is_taken_out_of_a_block_stands_where_it_stood() -> None:
    script = (
        'if __name__ == "__main__":\n    run()\n    class A:\n        text = """\n    Text.\n        """\n        x = 1\n'
        "    run()\ndef f():\n    return A\n"
    )
    found = taken("f", script=script)
    lines = found.source.split("\n")
    assert [lines.index("class A:"), lines.index("def f():")] == [2, 8]
    namespace: dict[str, Any] = {}
    exec(found.source, namespace)
    assert namespace["A"].text == "\n    Text.\n        "


def test_functions_that_a_kept_one_registers_are_kept() -> None:
    script = (
        "from functools import singledispatch\n@singledispatch\ndef f(x):\n    return 'base'\n"
        "@f.register\ndef _(x: int):\n    return 'int'\nrun()\n"
    )
    namespace: dict[str, Any] = {}
    exec(taken("f", script=script).source, namespace)
    assert namespace["f"](1) == "int"


@pytest.mark.parametrize(
    ("script", "computed"),
    [
        ("X = 0.5\nX = tune(X)\ndef f():\n    return X\n", ("X",)),
        ("X = []\nfor i in range(3):\n    X.append(i)\ndef f():\n    return X\n", ("X",)),
        ("X = {}\nX['a'] = train()\ndef f():\n    return X\n", ("X",)),
        ("df = load()\nN = len(df)\nM = N + 1\ndef f():\n    return M\n", ("M",)),
        ("import numpy as np\nX = np.load('x.npy')\ndef f():\n    return X\n", ("X",)),
        ("X = open('x').read()\ndef f():\n    return X\n", ("X",)),
        ("X = 1\nif run():\n    X = 2\ndef f():\n    return X\n", ("X",)),
        ("X = 1\nwhile run():\n    X = 2\ndef f():\n    return X\n", ("X",)),
        ("X = []\nfor _ in run():\n    X.append(0)\ndef f():\n    return X\n", ("X",)),
        ("try:\n    run()\n    X = 1\nexcept OSError:\n    X = 2\ndef f():\n    return X\n", ("X",)),
        ("with open('x') as X:\n    run()\ndef f():\n    return X\n", ("X",)),
        ("if run():\n    def f():\n        return 1\nelse:\n    def f():\n        return 2\n", ("f",)),
        ('X = 1\nif __name__ == "__main__":\n    X = run()\ndef f():\n    return X\n', ("X",)),
    ],
)
def test_what_only_the_rest_of_the_script_computes_is_told_and_left_out(script: str, computed: tuple[str, ...]) -> None:
    found = taken("f", script=script)
    assert found.computed == computed
    exec(found.source, {})


def test_all_definitions_can_be_imported_without_what_the_script_computes() -> None:
    script = "df = load()\nN = len(df)\nX = 1\ndef f():\n    return X\nmodel = fit(df)\nY = model.coef\n"
    namespace: dict[str, Any] = {}
    exec(taken(*EVERYTHING, script=script).source, namespace)
    assert namespace["f"]() == 1


def test_a_statement_that_begins_where_another_ends_is_told_apart() -> None:
    script = "x = load(\n); import os\ndef f():\n    return os.sep\n"
    namespace: dict[str, Any] = {}
    exec(taken("f", script=script).source, namespace)
    assert namespace["f"]() == "/"


LINES = st.sampled_from(
    [
        "import os",
        "x = 1",
        "y = x",
        "y = f()",
        "def f(a=x):\n    return y",
        "class A:\n    b = x",
        "print(1)",
        "x = 2; f()",
    ]
)


def blocks(statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = st.lists(statements, min_size=1, max_size=3).map("\n".join).map(lambda text: indent(text, "    "))
    heads = ['if __name__ == "__main__":', "if x:", "if f():", "for x in range(3):", "while f():", "with f() as x:"]
    plain = st.tuples(st.sampled_from(heads), body).map("\n".join)
    either = st.tuples(st.sampled_from(["if x:", "if f():"]), body, body).map(
        lambda it: f"{it[0]}\n{it[1]}\nelse:\n{it[2]}"
    )
    tried = st.tuples(body, body).map(lambda it: f"try:\n{it[0]}\nexcept OSError:\n{it[1]}")
    final = st.tuples(body, body).map(lambda it: f"try:\n{it[0]}\nfinally:\n{it[1]}")
    return plain | either | tried | final


@given(
    lines=st.lists(st.recursive(LINES, blocks, max_leaves=6), max_size=8),
    wanted=st.sets(st.sampled_from(["f", "A", "x", "gone"])),
)
def test_whatever_is_taken_is_python_without_the_body(lines: list[str], wanted: set[str]) -> None:
    script = "\n".join(lines) + "\n"
    found = taken(*wanted, script=script)
    assert runs_nothing(ast.parse(found.source))
    assert "print" not in found.source
