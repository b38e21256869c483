"""Program inside every replica: loads one version of a model and answers predictions until SIGTERM.

It answers HELLO with WELCOME, the first frame it sends on a connection, which describes the loaded model:

    {"protocol": 1, "streams": true, "pid": 42, "python": "3.11.7", "adapter": "joblib",
     "libraries": {"scikit-learn": "1.5.2", …}, "execution": {"execution_providers": […], …} or {}, "signature": {…},
     "samples": [bodies in a native dialect, best first], "confinement": {…}, "load_ms": 812}

Exit codes: 0 after SIGTERM, 2 for an invalid configuration, 3 if the model does not load.
"""

from __future__ import annotations

import gc
import os
import platform
import signal
import socket
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, List

from model_container.contract.config import VARIABLE, RuntimeConfig, vertex_routes
from model_container.contract.frames import PROTOCOL
from model_container.environment import enter
from model_container.server.log_stream import prepare_log_streams

if TYPE_CHECKING:
    from model_container.adapters.base import Adapter

EXIT_BAD_CONFIG = 2
EXIT_NOT_LOADED = 3

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
_BACKLOG = 128
_TRACEBACK_FRAMES = 6


def main() -> int:
    """Run the runtime from start to end. Ends the process itself after SIGTERM."""
    began = time.monotonic()
    prepare_log_streams()
    try:
        config = _read_config()
        set_threads(config.threads)
        listeners = listen(config)
    except (ValueError, TypeError, OSError) as error:
        print(f"prism: the runtime cannot start: {error}", file=sys.stderr, flush=True)
        return EXIT_BAD_CONFIG

    from model_container.sandbox.confine import confine

    # Objects created from here on are kept, and collecting repeatedly would take a tenth of the load time. Memory that
    # exists already is shared with the supervisor for as long as no collection writes to it.
    gc.disable()
    gc.freeze()
    # confine() may return in a forked child, so no thread may have been started before it.
    confinement = confine(config.confinement)
    _on_stop(lambda: os._exit(0))
    if config.environment:
        enter(config.environment)
    try:
        from model_container.adapters import load
        from model_container.adapters.files import file_rows

        adapter = load(config)
        files = file_rows(adapter, config.call)
    except Exception as error:
        report_load_failure(error)
        return EXIT_NOT_LOADED

    from model_container.server.server import Server

    welcome = describe(adapter, config.format, confinement, began)
    server = Server(adapter, welcome, config.token, vertex_routes(), files)
    # Libraries and the model are never freed: collections that traverse them would stall predictions.
    gc.collect()
    gc.freeze()
    gc.enable()
    stop = threading.Event()
    _on_stop(stop.set)
    server.start(listeners)
    stop.wait()
    server.stop()
    _remove_socket(config.socket)
    # Exit directly: a library's remaining threads could block a normal exit, and all our work is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _read_config() -> RuntimeConfig:
    try:
        config = RuntimeConfig.from_environment()
    except KeyError as error:
        raise ValueError(f"{VARIABLE} is not set; it holds the runtime's configuration as JSON") from error
    if config.environment and not sys.flags.no_site:
        raise ValueError("its Python was started without -S, which runs code of packages before the sandbox is active")
    return config


def set_threads(count: int) -> None:
    """Set the thread count of numerical libraries.

    Must run before numpy or any library with its own thread pool is imported: they read these variables only once.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(count)


def listen(config: RuntimeConfig) -> List[socket.socket]:
    """Open the listening sockets. A client that connects while the model loads waits for its WELCOME."""
    listeners = []
    if config.socket:
        listeners.append(_listen_unix(config.socket))
    if config.port:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((config.host, config.port))
        tcp.listen(_BACKLOG)
        listeners.append(tcp)
    if not listeners:
        raise ValueError("neither a socket nor a port to listen on is configured")
    return listeners


def _listen_unix(path: str) -> socket.socket:
    _remove_socket(path)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        unix.bind(path)
    finally:
        os.umask(mask)
    unix.listen(_BACKLOG)
    return unix


def _remove_socket(path: str) -> None:
    """Remove the socket of an earlier run. Inside the sandbox it may be out of reach; it is then left in place."""
    try:
        if path:
            os.unlink(path)
    except OSError:
        pass


def _on_stop(react: Callable[[], Any]) -> None:
    """Call `react` on SIGTERM and SIGINT.

    Handlers are needed: the kernel ignores signals without a handler for process 1 of a PID namespace.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: react())


def report_load_failure(error: Exception) -> None:
    """Print a short traceback, then one line that names the error."""
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-_TRACEBACK_FRAMES, chain=False)
    message = " ".join(str(error).split())
    print("".join(lines).rstrip(), file=sys.stderr)
    print(f"prism: the model did not load: {type(error).__name__}: {message}", file=sys.stderr, flush=True)


def describe(adapter: Adapter, name: str, confinement: Dict[str, Any], began: float) -> Dict[str, Any]:
    """Build the body of WELCOME. began: monotonic time at which the process started its work."""
    from model_container.adapters.base import Placed, libraries

    return {
        "protocol": PROTOCOL,
        "streams": True,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "adapter": name,
        "libraries": libraries(),
        "execution": adapter.execution() if isinstance(adapter, Placed) else {},
        "signature": adapter.signature(),
        "samples": adapter.samples(),
        "confinement": confinement,
        "load_ms": round((time.monotonic() - began) * 1000),
    }
