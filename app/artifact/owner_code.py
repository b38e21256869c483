"""Reads the Python files that an owner sends with a model: where each belongs, what it needs, and what of a script is used.

The script that trained a model defines what its pickle takes from `__main__`. Only those definitions are used, with what
they need themselves: the rest of the script, which would train again, never runs.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from app.artifact.definitions import EVERYTHING, definitions_of, runs_nothing
from app.artifact.distributions import distribution_of, is_unknown
from app.artifact.python_source import is_newer, syntax_tree
from app.artifact.requirements import module_of
from app.artifact.script_blocks import statements_of
from app.artifact.statements import DEFINITIONS, bound_names
from app.core.contents import CODE_LIMIT_BYTES
from app.core.inspection import MISSING_VALUES, MODULE_OF_WEIGHTS, Pin
from app.core.reading import CODE_FILES_MAX, CodeQuestion, CodeReading
from app.errors import BadInput

FACTORIES: Final = frozenset({"build_model", "make_model", "create_model"})
"""Functions that make the PyTorch module of a file of weights."""


class _File:
    """One file.

    path: as it was sent. place: where it belongs below the code folder. tree: None for a file that cannot be parsed, and
    then error says why; one that nothing imports may be anything.
    """

    def __init__(self, folder: Path, path: PurePosixPath, python_version: str) -> None:
        self.path = self.place = path
        self.source = ""
        self.tree: ast.Module | None = None
        self.error = ""
        self._walked: ast.Module | None = None
        self._statements: list[ast.Import | ast.ImportFrom] = []
        self._is_newer = is_newer(python_version)
        try:
            self.source = _text(folder / path)
            self.tree = syntax_tree(self.source, path.name)
        except SyntaxError as error:
            self.error = f"{path} is not Python: {error.msg} (line {error.lineno})."
        except (ValueError, RecursionError, MemoryError):
            self.error = f"{path} cannot be read as Python."

    @property
    def module(self) -> str:
        return dotted(self.place)

    @property
    def package(self) -> str:
        return self.module if self.place.name == "__init__.py" else self.module.rpartition(".")[0]

    def refuse_unreadable(self) -> None:
        """Raise BadInput for what is not Python, unless it is for a Python newer than this one."""
        if self.error and not self._is_newer:
            raise BadInput(self.error, hint="Correct that file, or leave it out.", field="code_files")

    def imports(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each module that it imports, with the names that it takes from it; no names for `import module`."""
        if self._walked is not self.tree:  # once for each tree: it is asked for every other file
            self._walked = self.tree
            nodes = ast.walk(self.tree) if self.tree else ()
            self._statements = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in self._statements:
            if isinstance(node, ast.Import):
                yield from ((alias.name, ()) for alias in node.names)
            else:
                names = tuple(alias.name for alias in node.names)
                base = self.package.split(".")
                above = ".".join(base[: len(base) - node.level + 1]) if node.level else ""
                yield ".".join(filter(None, (above, node.module or ""))), names


def dotted(path: PurePosixPath) -> str:
    """Return the name by which a file is imported, such as `src.features`; for `src/__init__.py` that is `src`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_code(folder: Path, question: CodeQuestion) -> CodeReading:
    """Read the Python files in a folder. Only those that the model needs have to be Python.

    Raises BadInput for one of these that is not, for more than CODE_FILES_MAX files, or for two of one name.
    """
    files = list(_files(folder, question.python_version))
    modules = {module_of(name) for name in question.names} - {"__main__"}
    files = _placed(files, question.sent, set(_with_parents(modules)))
    by_module = {file.module: file for file in files}
    imported = {file.module: _own_imports(file, by_module) for file in files}
    by_others = {name for importer, names in imported.items() for name in names - {importer}}
    mains = _mains(files, question.missing, by_others)
    needed = _reached({file.module for file in mains} | set(_with_parents(modules)), imported)
    notes: dict[str, str] = {}
    definitions: dict[str, str] = {}
    for file in files:
        if file.module in needed:
            file.refuse_unreadable()
    for file in mains:
        if file.tree is None or (file.package and file.module in by_others):
            continue
        wanted = wanted_names(file.tree, question.missing) | _wanted_by_others(file, files, question.names)
        if runs_nothing(file.tree, wanted):
            continue
        taken = definitions_of(file.source, file.tree, wanted)
        definitions[str(file.path)] = taken.source
        file.tree = syntax_tree(taken.source, file.path.name)
        notes |= _notes(file, taken.names, taken.computed)
    used = [file for file in files if file.module in needed]
    tops = {name.partition(".")[0] for name in by_module}
    return CodeReading(
        places={str(file.path): str(file.place) for file in files},
        mains=tuple(file.module for file in mains),
        definitions=definitions,
        missing=_still_missing(question, files, mains, by_module),
        defined=tuple(name for name in question.names if _defines(by_module.get(module_of(name)), name)),
        pins=tuple(_pins(used, tops)),
        unknown_modules=tuple(sorted({name for file in used for name in _unknown_modules(file, tops)})),
        facts=notes,
    )


def _defines(file: _File | None, name: str) -> bool:
    """Return whether a file defines a global itself, as a function or class at its top that nothing else replaces."""
    if file is None or file.tree is None:
        return False
    bound = name.removeprefix(f"{file.module}.")
    binding = [node for node in file.tree.body if bound in bound_names(node)]
    return bool(binding) and all(isinstance(node, DEFINITIONS) for node in binding)


def _text(path: Path) -> str:
    """Return the text of a source file in the encoding that it declares. Raises SyntaxError or ValueError."""
    content = path.read_bytes()
    if len(content) > CODE_LIMIT_BYTES:
        raise ValueError
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return content.decode(encoding)


def _files(folder: Path, python_version: str) -> Iterator[_File]:
    paths = sorted(path for path in folder.rglob("*.py") if path.is_file())
    if len(paths) > CODE_FILES_MAX:
        raise BadInput(f"More than {CODE_FILES_MAX} Python files came with the model.", field="code_files")
    for path in paths:
        yield _File(folder, PurePosixPath(path.relative_to(folder)), python_version)


def _placed(files: list[_File], sent: Collection[str], modules: set[str]) -> list[_File]:
    """Put the sent files where most of what is imported is found, and return all files that are then in use.

    `src/features.py` is `src.features` for a model that imports it so, and `features` for another: of each folder sent,
    those folders at the top are dropped without which most is found, or all that its files share where nothing is. A sent
    file takes the place of one that came with the model.
    """
    groups: dict[str, list[_File]] = {}
    for file in files:
        if str(file.path) in sent:
            groups.setdefault(file.path.parts[0], []).append(file)
    imported = {name for file in files for name, _ in file.imports()}
    for group in groups.values():

        def score(dropped: int, group: list[_File] = group) -> tuple[int, int, int]:
            provided = set(_with_parents(dotted(_dropped(file.path, dropped)) for file in group))
            found = len(modules & provided), len(imported & provided)
            return *found, -dropped if any(found) else dropped

        best = max(range(min(len(file.path.parts) for file in group)), key=score)
        for file in group:
            file.place = _dropped(file.path, best)
    places = Counter(file.place for group in groups.values() for file in group)
    if twice := next((place for place, count in places.items() if count > 1), None):
        raise BadInput(
            f"Two code files would both be `{twice}`.",
            hint="Send them with the folders by which they are imported, such as `src/features.py`.",
            field="code_files",
        )
    return [file for file in files if str(file.path) in sent or file.place not in places]


def _dropped(path: PurePosixPath, number: int) -> PurePosixPath:
    return PurePosixPath(*path.parts[min(number, len(path.parts) - 1) :])


def _with_parents(modules: Iterable[str]) -> Iterator[str]:
    for module in modules:
        parts = module.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _own_imports(file: _File, by_module: Collection[str]) -> set[str]:
    """Return which of the files a file imports, by their modules."""
    found = {name for base, names in file.imports() for name in (base, *(f"{base}.{each}" for each in names))}
    return set(_with_parents(found)) & set(by_module)


def _reached(modules: set[str], imported: dict[str, set[str]]) -> set[str]:
    """Return the modules that are needed, and all that these import in turn."""
    pending, reached = modules & imported.keys(), set[str]()
    while pending:
        name = pending.pop()
        reached.add(name)
        pending |= (imported[name] | ({*_with_parents([name])} & imported.keys())) - reached
    return reached


def _mains(files: list[_File], missing: Collection[str], by_others: set[str]) -> list[_File]:
    """Return the files that define what the model takes from `__main__`, each name once.

    Preferred are files that no other one imports, and those nearest to the top. For PyTorch weights they are all those
    with a factory, or else with a module class, that no other file imports. A file for a newer Python is not looked into.
    """
    order = sorted(files, key=lambda file: (file.module in by_others, len(file.place.parts), str(file.place)))
    mains: list[_File] = []
    if MODULE_OF_WEIGHTS in missing:
        makers = [file for file in order if wanted_names(file.tree, (MODULE_OF_WEIGHTS,))]
        makers = [file for file in makers if file.module not in by_others] or makers
        with_factory = [file for file in makers if file.tree and FACTORIES & set(_defined(file.tree))]
        mains += with_factory or makers or [file for file in order if len(file.place.parts) == 1]
    wanted = {_last(name) for name in missing if name != MODULE_OF_WEIGHTS}
    for file in order:
        if found := wanted & set(_defined(file.tree)):
            mains.append(file)
            wanted -= found
    if wanted:
        mains += [file for file in order if file.tree is None and len(file.place.parts) == 1]
    return list(dict.fromkeys(mains))


def _defined(tree: ast.Module | None) -> Iterator[str]:
    """Yield the names that a module binds at its top otherwise than by an import."""
    for node in tree.body if tree else ():
        if not isinstance(node, ast.Import | ast.ImportFrom):
            yield from bound_names(node)


def wanted_names(tree: ast.Module | None, missing: Collection[str]) -> set[str]:
    """Return what a module defines of what is missing. A class or function that makes a PyTorch module is what weights need.

    missing: as in `Inspection.missing_code`.
    """
    found = {_last(name) for name in missing if name != MODULE_OF_WEIGHTS} & set(_defined(tree))
    for node in statements_of(tree) if tree and MODULE_OF_WEIGHTS in missing else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if node.name in FACTORIES or any(base.endswith("Module") for base in bases):
                found.add(node.name)
    return found


def _wanted_by_others(script: _File, files: list[_File], names: Iterable[str]) -> set[str]:
    """Return which names the model and the other files take from a script that is also imported as a module."""
    wanted = {_last(name) for name in names if module_of(name) == script.module}
    for file in files:
        for base, taken in file.imports() if file is not script else ():
            if base == script.module:
                wanted |= set(taken or EVERYTHING)
            elif f"{base}.{script.module.rpartition('.')[2]}" == script.module and script.path.stem in taken:
                wanted |= EVERYTHING
    return wanted


def _still_missing(
    question: CodeQuestion, files: list[_File], mains: list[_File], by_module: Collection[str]
) -> tuple[str, ...]:
    """Return what the model takes from `__main__`, or from a module of the sent packages, and no file provides."""
    if any(file.tree is None for file in mains):
        return ()
    defined = {name for file in mains for name in _defined(file.tree)}
    own = {name for name in question.missing if name != MODULE_OF_WEIGHTS and _last(name) not in defined}
    packages = {file.module.partition(".")[0] for file in files if str(file.path) in question.sent}
    provided = set(_with_parents(by_module))
    modules = {module_of(name) for name in question.names}
    absent = {name for name in modules if name.partition(".")[0] in packages and name not in provided}
    return tuple(sorted(own | absent))


def _last(name: str) -> str:
    """Return the top name within its module: `Scaler` of `__main__.Scaler`, and of `__main__:Scaler.Inner`."""
    return name.partition(":")[2].partition(".")[0] if ":" in name else name.rpartition(".")[2]


def _pins(files: list[_File], own: set[str]) -> Iterator[Pin]:
    """Yield a pin for each known distribution that the files import."""
    seen: set[str] = set()
    for file in files:
        for module in sorted({base.partition(".")[0] for base, _ in file.imports() if base} - own):
            if (distribution := distribution_of(module)) and distribution not in seen:
                seen.add(distribution)
                yield Pin(distribution, "", f"{file.place} imports `{module}`")


def _unknown_modules(file: _File, own: set[str]) -> Iterator[str]:
    """Yield the modules of nobody known that a file imports at its top; others may never be reached."""
    for node in file.tree.body if file.tree else ():
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        tops = {name.partition(".")[0] for name in names} - own
        yield from (name for name in tops if is_unknown(name))


def _notes(file: _File, names: tuple[str, ...], computed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield what is worth telling of a script of which only definitions are used."""
    yield f"code of {file.place}", f"{_listed(names)} and what they use; the rest of the script does not run"
    if computed:
        yield (
            f"{MISSING_VALUES}{file.place}",
            f"{_listed(computed)}, which the definitions use and only the rest of the script computes: make it part of the model",
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name[:50]}`" for name in names[:10]) + (" and more" if len(names) > 10 else "")
