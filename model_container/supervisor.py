"""The process that stays outside the walls and watches the runtime: a parent that starts nothing and serves nothing.

It hands signals on, ends with the runtime's own exit code, dies with it and takes it along, and holds what no
resource limit of Linux holds: the memory and the number of all processes of a replica together, and its log's size.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass

from model_container import kernel, logfile

_TICK_SECONDS = 1.0
_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
OWN_PROC, SHARED_PROC = b"o", b"s"
_MAX_LOG_BYTES, _KEPT_LOG_BYTES = 10 << 20, 1 << 20


@dataclass(frozen=True)
class Bounds:
    """For the whole process tree; 0 is none."""

    memory_mb: int
    pids: int


class Runtime:
    """What the runtime's side of the fork holds: its end of the pipe to the supervisor."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def walls_are_up(self, own_proc: bool) -> None:
        """Tell the supervisor, and end here if it is already gone: its death can then not be noticed any more."""
        try:
            os.write(self._pipe, OWN_PROC if own_proc else SHARED_PROC)
        except BrokenPipeError:
            os._exit(128 + signal.SIGKILL)
        os.close(self._pipe)


def split(bounds: Bounds) -> Runtime:
    """Fork; only the child returns. It is killed when its parent, the supervisor, dies. Raises OSError."""
    reading, writing = os.pipe()
    log = logfile.open_to_cut(1)  # while /proc is still the machine's
    handed_down = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, reading, log}
    every = {signal.SIGCHLD, *_HANDED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
    try:
        child = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, every)
        _close(reading, writing, log)
        raise
    if child == 0:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, int(signal.SIGKILL))
        _close(reading, log)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, every)
        return Runtime(writing)
    for descriptor in handed_down:
        # The listing itself was read through one, which is closed already.
        with contextlib.suppress(OSError):
            os.close(descriptor)
    try:
        code = _Watch(child, reading, bounds, log).until_the_end()
    except BaseException as error:  # whatever happens here, the runtime must not go on unwatched
        _say(f"its supervisor failed with {error!r}")
        code = 1
    os._exit(code)


class _Watch:
    def __init__(self, child: int, pipe: int, bounds: Bounds, log: int | None) -> None:
        self.child = child
        self.log = log
        self.pipe = pipe
        self.bounds = bounds
        self.walls = b""
        self.excess = ""
        self.kernel_kills = _kernel_kills()
        os.set_blocking(pipe, False)
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)

    def until_the_end(self) -> int:
        """Returns the exit code: the runtime's, or 128 + the signal that killed it."""
        while True:
            received = signal.sigtimedwait({signal.SIGCHLD, *_HANDED_ON}, _TICK_SECONDS)
            if received is None:
                self.look()
            elif received.si_signo != signal.SIGCHLD:
                os.kill(self.child, received.si_signo)
            status = self.reap()
            if status is not None:
                if self.walls != OWN_PROC:  # else its numbers are not ours, and the kernel has ended all of them
                    _end_the_rest()
                return self.explain(status)

    def reap(self) -> int | None:
        """The runtime's wait status once it has ended; orphans handed to us are collected on the way."""
        ended = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self.child:
                ended = status

    def explain(self, status: int) -> int:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            why = self.excess
            if not why and number == signal.SIGKILL and _kernel_kills() > self.kernel_kills:
                why = "killed by the out-of-memory killer"
            _say(why or f"killed by signal {number} ({signal.Signals(number).name})")
            return 128 + number
        code = os.WEXITSTATUS(status)
        if code:
            _say(f"exited with code {code}")
        return code

    def look(self) -> None:
        self.keep_the_log_small()
        self.kernel_kills = _kernel_kills()
        if not self.walls:
            self.walls = self.hear()
            if not self.walls:
                return  # it is still putting them up, and whose /proc this is cannot be said
        used_bytes, processes = _use_of(_everyone() if self.walls == OWN_PROC else _descendants())
        if self.bounds.memory_mb and used_bytes > self.bounds.memory_mb << 20:
            self.end(f"out of memory: it used {used_bytes >> 20} MiB, its limit is {self.bounds.memory_mb} MiB")
        elif self.bounds.pids and processes > self.bounds.pids:
            self.end(f"too many processes: it had {processes}, its limit is {self.bounds.pids}")

    def keep_the_log_small(self) -> None:
        if self.log is not None:
            with contextlib.suppress(OSError):  # the other replica of a change of guard is at it, or the disk is full
                logfile.cut(self.log, _MAX_LOG_BYTES, _KEPT_LOG_BYTES)

    def hear(self) -> bytes:
        """What the runtime said when its walls were up; nothing before that."""
        try:
            return os.read(self.pipe, 1)
        except BlockingIOError:
            return b""

    def end(self, reason: str) -> None:
        self.excess = reason
        os.kill(self.child, signal.SIGKILL)


def _close(*descriptors: int | None) -> None:
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)


def _say(reason: str) -> None:
    """The one line of the log that says why a replica ended; the process target looks for it by the pid."""
    print(f"supervisor {os.getpid()}: the replica ended: {reason}", file=sys.stderr, flush=True)


def _everyone() -> list[int]:
    """All that /proc shows: where it is the replica's own, all processes of the replica."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _descendants() -> list[int]:
    """All below the supervisor; as their reaper it also gets those whose parent has ended."""
    found: list[int] = []
    asked = [os.getpid()]
    while asked:
        below = _children(asked.pop())
        found += below
        asked += below
    return found


def _children(pid: int) -> list[int]:
    """Of all its threads. Empty if it has ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
    return found


def _use_of(pids: list[int]) -> tuple[int, int]:
    """Bytes of their private memory, and their number.

    Pages shared between processes count for none, those of a fork not yet written to count for each.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    used = 0
    for pid in pids:
        # It may end meanwhile.
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm") as file:
            _, resident, shared, *_ = file.read().split()
            used += (int(resident) - int(shared)) * page
    return used, len(pids)


def _kernel_kills() -> int:
    """How often the out-of-memory killer struck on this machine; 0 where that cannot be read."""
    try:
        with open("/proc/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def _end_the_rest() -> None:
    """Processes the runtime left behind; they came to us as their reaper."""
    while True:
        left = _descendants()
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
