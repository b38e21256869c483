"""Serialises a model from memory, together with the source of what the session or modules of one's own define for it.

A pickle holds a class by its name alone. The names of `__main__`, that is of a script, a notebook or an interpreter, mean
nothing to a server; so their definitions are sent as Python source, with what they use: imports, functions and constants.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import io
import pickle
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import IO, Any

from prism.definition_source import registers_itself, source_of, used_names
from prism.errors import InvalidRequest

SESSION = "session.py"
LITERALS = (type(None), bool, int, float, complex, str, bytes)
LITERAL_CHARACTERS = 100_000


class Named(io.BytesIO):
    """Bytes with the name under which they are uploaded."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def serialised(model: Any) -> tuple[IO[bytes], list[Any]]:
    """Serialise a model by its kind. Returns it, and the code files that it needs.

    A PyTorch module, an exported program and an ONNX graph are saved as their libraries do, everything else is pickled.
    Raises InvalidRequest for what cannot be pickled, and for a definition whose source or value cannot be sent.
    """
    name = type(model).__name__
    if _is(model, "onnx", "ModelProto"):
        return Named(model.SerializeToString(), f"{name}.onnx"), []
    if _is(model, "torch", "ScriptModule", "ExportedProgram"):
        return _saved_by_torch(model, name), []
    recorder = _record(model)
    if _is(model, "torch", "Module"):
        return _saved_by_torch(model, name), list(_code(recorder.defined))
    return Named(recorder.content, f"{name}.pkl"), list(_code(recorder.defined))


def _is(model: Any, library: str, *classes: str) -> bool:
    """Return whether the model is an instance of one of the classes; the library itself is not imported."""
    return any(
        base.__name__ in classes and base.__module__.partition(".")[0] == library for base in type(model).__mro__
    )


def _saved_by_torch(model: Any, name: str) -> IO[bytes]:
    torch = sys.modules["torch"]
    if _is(model, "torch", "ExportedProgram"):
        file = Named(b"", f"{name}.pt2")
        torch.export.save(model, file)
    else:
        file = Named(b"", f"{name}.pt")
        (torch.jit.save if _is(model, "torch", "ScriptModule") else torch.save)(model, file)
    file.seek(0)
    return file


class _Recorder(pickle.Pickler):
    """Pickler that notes the classes and functions which the pickle takes by name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self._file = file
        self.defined: dict[str, Any] = {}

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | FunctionType):
            self.defined.setdefault(f"{value.__module__}.{value.__qualname__}", value)
        return NotImplemented

    @property
    def content(self) -> bytes:
        return self._file.getvalue()


class _ModuleRecorder(_Recorder):
    """Recorder for a PyTorch module, whose tensors are not worth pickling twice."""

    def persistent_id(self, value: Any) -> Any:
        return "tensor" if _is(value, "torch", "Tensor") else None


def _record(model: Any) -> _Recorder:
    recorder = (_ModuleRecorder if _is(model, "torch", "Module") else _Recorder)(io.BytesIO())
    try:
        recorder.dump(model)
    except (pickle.PicklingError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidRequest(
            f"The {type(model).__name__} cannot be pickled: {error}.",
            hint="Define its functions and classes with `def` and `class` at the top of the session or of a file: lambdas "
            "and what is defined within a function cannot be sent.",
        ) from error
    return recorder


def _code(defined: dict[str, Any]) -> Iterator[Any]:
    """Yield the code files for what a pickle takes by name: one of the session, and the user's own modules."""
    of_session = [value for value in defined.values() if value.__module__ == "__main__"]
    modules = {value.__module__ for value in defined.values()} - {"__main__"}
    if of_session:
        source = _Source()
        for value in of_session:
            source.add(value.__qualname__.partition(".")[0], value)
        yield Named(source.text.encode(), SESSION)
        modules |= source.modules
    yield from _own_modules(modules)


def _own_modules(names: set[str]) -> Iterator[Path]:
    """Yield the files and packages that are neither installed nor Python's, with those that they import in turn."""
    pending, seen = {name.partition(".")[0] for name in names}, set[str]()
    while pending:
        top = pending.pop()
        seen.add(top)
        place = _own_place(sys.modules.get(top))
        if place is None:
            continue
        yield place
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            with suppress(SyntaxError, ValueError):  # the server says so if the model needs it
                pending |= set(_imported(file.read_text(encoding="utf-8"))) - seen


def _own_place(module: ModuleType | None) -> Path | None:
    """Return the file or package folder of a module of the user's own."""
    paths = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None)]
    if not paths[0]:
        return None
    place = Path(paths[0]).resolve()
    installed = {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    parts = place.parts
    if (
        any(place.is_relative_to(folder) for folder in installed)
        or "site-packages" in parts
        or "dist-packages" in parts
    ):
        return None
    return place if place.is_dir() or place.suffix == ".py" else None


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


class _Source:
    """Source text of definitions of `__main__`, each with what it uses in front of it. modules: those it imports."""

    def __init__(self) -> None:
        self._session = vars(sys.modules["__main__"])
        self._seen: set[str] = set()
        self._written: set[int] = set()
        self._imports: list[str] = []
        self._definitions: list[str] = []
        self._texts: list[str] = []
        self.modules: set[str] = set()

    @property
    def text(self) -> str:
        """The source. Raises InvalidRequest if it is not Python, which would be a fault of what wrote it."""
        postponed = type(self._session.get("annotations")).__name__ == "_Feature"
        head = ["from __future__ import annotations"] if postponed else []
        text = "\n".join((*head, *self._imports)) + "\n\n" + "\n\n\n".join(self._definitions) + "\n"
        try:
            compile(text, SESSION, "exec")
        except SyntaxError as error:
            raise InvalidRequest(
                f"The source that the model needs of this session cannot be written: {error}.",
                hint="Deploy the model from a file with `code_files`.",
            ) from error
        return text

    def add(self, name: str, user: Any) -> None:
        """Add what a name of the session means. user: what needs it, for an error."""
        if name in self._seen or name not in self._session:
            return
        self._seen.add(name)
        value = self._session[name]
        defined = _unwrapped(value)
        if isinstance(value, ModuleType):
            self._import_module(value.__name__, name)
        elif isinstance(defined, type | FunctionType) and defined.__module__ == "__main__":
            self._define(name, defined)
        elif text := _as_literal(value):
            self._definitions.append(f"{name} = {text}")
        elif place := _place_of(value):
            self._import(*place, name)
        elif written := _written(value):
            if module := written.partition("(")[0].rpartition(".")[0]:
                self._imports.append(f"import {module}")
            self._definitions.append(f"{name} = {written}")
        else:
            raise InvalidRequest(
                f"`{getattr(user, '__qualname__', user)}` uses `{name}`, a {type(value).__name__} of this session, which "
                "cannot be sent as source.",
                hint="Make it an attribute of the model, or build it within the function or class that uses it.",
            )
        for kind, implementation in _registered(value):
            self._register(name, kind, implementation)

    def _define(self, name: str, value: Any) -> None:
        own = value.__qualname__.partition(".")[0]
        if own != name:
            self.add(own, value)
            self._definitions.append(f"{name} = {value.__qualname__}")
            return
        self._write(value)

    def _write(self, value: Any) -> None:
        """Write the source of a class or function, after all that it uses."""
        self._written.add(id(value))
        text = source_of(value)
        self._texts.append(text)
        for used in sorted(used_names(text)):
            self.add(used, value)
        self._definitions.append(text)

    def _register(self, name: str, kind: type, implementation: Any) -> None:
        """Write what a function of `functools.singledispatch` calls for a type, if the session has registered that."""
        defined = _unwrapped(implementation)
        own = defined.__name__
        if self._session.get(own) is implementation:
            self._seen.add(own)
        if defined.__module__ == "__main__":
            if id(defined) not in self._written:
                self._write(defined)
            if registers_itself(source_of(defined)):
                return
        else:
            self._import(defined.__module__, defined.__qualname__, own)
        self._definitions.append(f"{name}.register({self._type(kind)}, {own})")

    def _type(self, kind: type) -> str:
        """Return an expression for a type, and have all that it needs."""
        if kind.__module__ == "builtins":
            return kind.__name__ if hasattr(builtins, kind.__name__) else "type(None)"
        if kind.__module__ == "__main__":
            self.add(kind.__qualname__.partition(".")[0], kind)
            return kind.__qualname__
        self._imports.append(f"import {kind.__module__}")
        self.modules.add(kind.__module__)
        return f"{kind.__module__}.{kind.__qualname__}"

    def _import_module(self, module: str, name: str) -> None:
        self.modules.add(module)
        if name == module.partition(".")[0] or name == module:
            below = sorted(each for each in sys.modules if each.startswith(f"{module}.") and self._is_used(each))
            self._imports += [f"import {each}" for each in (module, *below)]
        else:
            self._imports.append(f"import {module} as {name}")

    def _is_used(self, module: str) -> bool:
        """Return whether a definition of the session names a submodule, such as `xml.etree.ElementTree`."""
        return any(module in text for text in self._texts)

    def _import(self, module: str, attribute: str, name: str) -> None:
        self.modules.add(module)
        self._imports.append(f"from {module} import {attribute}" + (f" as {name}" if name != attribute else ""))


def _unwrapped(value: Any) -> Any:
    """Return the definition behind decorators that say what they wrap, such as `functools.lru_cache`."""
    return inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value


def _registered(value: Any) -> Iterator[tuple[type, Any]]:
    """Yield what a function of `functools.singledispatch` calls for a type, beside what its own module defines for it."""
    if not isinstance(value, FunctionType) or not hasattr(value, "dispatch"):
        return
    base = _unwrapped(value)
    for kind, implementation in getattr(value, "registry", {}).items():
        is_of_session = "__main__" in (base.__module__, implementation.__module__)
        if is_of_session and isinstance(kind, type) and _unwrapped(implementation) is not base:
            yield kind, implementation


def _place_of(value: Any) -> tuple[str, str] | None:
    """Return the module and the name by which a value can be imported."""
    if type(value).__name__ == "ufunc":  # of numpy or scipy, and says not of which module
        name = str(value.__name__)
        homes = [each for each in sys.modules if each.partition(".")[0] in ("numpy", "scipy")]
        places = [(home, name) for home in homes if getattr(sys.modules[home], name, None) is value]
        return min(places, key=lambda place: (place[0].count("."), "_" in place[0], place[0]), default=None)
    module = getattr(value, "__module__", None)
    attribute = getattr(value, "__qualname__", getattr(value, "__name__", None))
    if not isinstance(module, str) or not isinstance(attribute, str) or module == "__main__" or "." in attribute:
        return None
    return (module, attribute) if getattr(sys.modules.get(module), attribute, None) is value else None


def _written(value: Any) -> str:
    """Return an expression for a few objects that modules keep at their top; "" for others."""
    kind = type(value)
    if kind.__module__ == "logging" and kind.__name__ == "Logger":
        return f"logging.getLogger({value.name!r})"
    if kind.__module__ == "re" and kind.__name__ == "Pattern":
        return f"re.compile({value.pattern!r}, {int(value.flags)})"
    if (
        kind.__module__ == "typing"
        and kind.__name__ == "TypeVar"
        and not value.__constraints__
        and value.__bound__ is None
    ):
        return f"typing.TypeVar({value.__name__!r})"
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "item") and getattr(value, "shape", None) == ():
        return f"numpy.{kind.__name__}({value.item()!r})"
    if isinstance(value, float) and kind is float:
        return f"float({str(value)!r})"
    return ""


def _as_literal(value: Any, depth: int = 4) -> str:
    """Return the value as a literal; "" if it has none."""
    return repr(value) if _is_literal(value, depth) and len(repr(value)) <= LITERAL_CHARACTERS else ""


def _is_literal(value: Any, depth: int) -> bool:
    if type(value) in LITERALS:
        return not isinstance(value, float) or (value == value and abs(value) != float("inf"))
    if type(value) is dict:
        return depth > 0 and all(_is_literal(each, depth - 1) for each in (*value, *value.values()))
    return (
        type(value) in (list, tuple, set, frozenset)
        and depth > 0
        and all(_is_literal(each, depth - 1) for each in value)
    )
