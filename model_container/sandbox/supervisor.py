"""Supervisor of the runtime: its parent process outside the sandbox, which starts nothing else and serves nothing.

It forwards signals, exits with the runtime's exit code, dies with it and takes it along. It always limits the size of
the log. If no control group limits the replica, it also limits the memory and number of all the replica's processes.
Only the supervisor can say why the replica ended: it writes that to a file that was opened before the fork and that the
runtime has closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import Dict, Optional, Union

from model_container.contract import logfile
from model_container.sandbox import syscalls, usage

_TICK_SECONDS, _WATCHFUL_SECONDS, _WITH_CHILDREN_SECONDS = 1.0, 0.1, 0.02
_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
OWN_PROC, SHARED_PROC = b"o", b"s"
IN_GROUP, ON_ITS_OWN = b"g", b"-"
_MAX_LOG_BYTES, _KEPT_LOG_BYTES = 10 << 20, 1 << 20

_OUT_OF_MEMORY = "out of memory"

End = Dict[str, Union[str, int, bool, None]]


@dataclass(frozen=True)
class Bounds:
    """Limits for the whole process tree; 0 for none."""

    memory_mb: int
    pids: int


@dataclass(frozen=True)
class Kept:
    """Descriptors that stay with the supervisor, -1 for none.

    end: of the file to which it writes how the replica ended.
    """

    group: usage.Group = field(default_factory=usage.Group)
    end: int = -1

    def all(self) -> list[int]:
        return [descriptor for descriptor in (*self.group, self.end) if descriptor >= 0]


class Runtime:
    """Runtime's side of the fork: its end of the pipe to the supervisor."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def report_confined(self, own_proc: bool, in_group: bool) -> None:
        """Report to the supervisor that the sandbox is set up.

        Exits if the supervisor is gone already, because its death could then no longer be noticed.
        """
        try:
            os.write(self._pipe, (OWN_PROC if own_proc else SHARED_PROC) + (IN_GROUP if in_group else ON_ITS_OWN))
        except BrokenPipeError:
            os._exit(128 + signal.SIGKILL)
        os.close(self._pipe)


def fork_supervised(bounds: Bounds, kept: Kept) -> Runtime:
    """Fork; only the child returns. It is killed when its parent, the supervisor, dies. Raises OSError."""
    reading, writing = os.pipe()
    log = logfile.open_to_cut(1)  # needs the machine's /proc
    handed_down = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, reading, log, *kept.all()}
    every = {signal.SIGCHLD, *_HANDED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
    # Otherwise the supervisor's files could be opened through /proc/<pid>/fd if that is visible.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    try:
        child = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, every)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        close(reading, writing, log, *kept.all())
        raise
    if child == 0:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, int(signal.SIGKILL))
        close(reading, log, *kept.all())
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, every)
        return Runtime(writing)
    for descriptor in handed_down:
        # The list contains the descriptor used to read it, which is closed already.
        with contextlib.suppress(OSError):
            os.close(descriptor)
    try:
        code = _Watch(child, reading, bounds, log, kept).until_the_end()
    except BaseException as error:  # the runtime must never run unsupervised
        _tell(kept.end, {"reason": f"its supervisor failed with {error!r}"[:1000]})
        code = 1
    os._exit(code)


class _Watch:
    def __init__(self, child: int, pipe: int, bounds: Bounds, log: Optional[int], kept: Kept) -> None:
        self.child = child
        self.log = log
        self.pipe = pipe
        self.bounds = bounds
        self.kept = kept
        self.sandbox = b""
        self.excess = ""
        self.most_bytes = 0
        self.processes = 0
        self.kills, self.kernel_kills = usage.kills_in(kept.group), usage.kernel_kills()
        os.set_blocking(pipe, False)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)

    @property
    def own_proc(self) -> bool:
        return self.sandbox[:1] == OWN_PROC

    @property
    def in_group(self) -> bool:
        return self.sandbox[1:] == IN_GROUP

    def until_the_end(self) -> int:
        """Watch until the runtime ends. Returns its exit code, or 128 + the signal that killed it."""
        while True:
            received = signal.sigtimedwait({signal.SIGCHLD, *_HANDED_ON}, self.patience_seconds())
            if received is None:
                self.look()
            elif received.si_signo != signal.SIGCHLD:
                os.kill(self.child, received.si_signo)
            status = self.reap()
            if status is not None:
                if not self.own_proc:  # otherwise its pids are not ours, and the kernel has ended them all
                    _end_the_rest()
                return self.explain(status)

    def patience_seconds(self) -> float:
        """Return the time until the next check.

        Checks must be frequent only if no group limits the replica: 64 processes fill gigabytes a second.
        """
        if self.in_group:
            return _TICK_SECONDS
        return _WATCHFUL_SECONDS if self.sandbox and self.processes <= 1 else _WITH_CHILDREN_SECONDS

    def reap(self) -> Optional[int]:
        """Return the runtime's wait status once it has ended; orphans that were reparented to us are reaped as well."""
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
        """Report why the runtime ended; returns the exit code."""
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + number if number else os.WEXITSTATUS(status)
        reason = f"killed by signal {number} ({_name(number)})" if number else f"exited with code {code}"
        if code:
            reason = self.excess or self.killed_for_memory(number) or reason
        end: End = {
            "reason": reason,
            "exit_code": None if number else code,
            "signal": number or None,
            "out_of_memory": reason.startswith(_OUT_OF_MEMORY),
            "peak_memory_bytes": usage.peak_of(self.kept.group) or self.most_bytes,
        }
        _tell(self.kept.end, end, is_worth_a_line=bool(code))
        return code

    def killed_for_memory(self, number: int) -> str:
        if self.kept.group.kills >= 0:
            return self.out_of_memory() if usage.kills_in(self.kept.group) > self.kills else ""
        if number == signal.SIGKILL and usage.kernel_kills() > self.kernel_kills:
            return f"{_OUT_OF_MEMORY}, on this machine"
        return ""

    def out_of_memory(self) -> str:
        return f"{_OUT_OF_MEMORY}, limit {self.bounds.memory_mb} MiB"

    def look(self) -> None:
        self.keep_the_log_small()
        self.kernel_kills = usage.kernel_kills()
        if not self.sandbox:
            self.sandbox = self.hear()
            if not self.sandbox:
                return  # the sandbox is not complete, so it is unknown whose /proc this is
        if self.in_group:
            # The kernel killed one of its processes; the others might wait for that one for ever.
            if usage.kills_in(self.kept.group) > self.kills:
                self.end(self.out_of_memory())
        else:
            self.count()

    def count(self) -> None:
        used = usage.usage_of(usage.everyone() if self.own_proc else usage.descendants(), self.own_proc)
        self.processes = used.processes
        self.most_bytes = max(self.most_bytes, used.memory_bytes)
        if self.bounds.memory_mb and used.memory_bytes > self.bounds.memory_mb << 20:
            self.end(f"{self.out_of_memory()}, used {used.memory_bytes >> 20} MiB")
        elif self.bounds.pids and used.processes > self.bounds.pids:
            self.end(f"too many processes, limit {self.bounds.pids}, had {used.processes}")

    def keep_the_log_small(self) -> None:
        if self.log is not None:
            with contextlib.suppress(OSError):  # another replica is cutting the log, or the disk is full
                logfile.cut(self.log, _MAX_LOG_BYTES, _KEPT_LOG_BYTES)

    def hear(self) -> bytes:
        """Return what the runtime reported once its sandbox was set up; b"" before that."""
        try:
            return os.read(self.pipe, 2)
        except BlockingIOError:
            return b""

    def end(self, reason: str) -> None:
        self.excess = reason
        os.kill(self.child, signal.SIGKILL)


def close(*descriptors: Optional[int]) -> None:
    """Close the descriptors; None and negative numbers are skipped."""
    for descriptor in descriptors:
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "?"


def _tell(file: int, end: End, is_worth_a_line: bool = True) -> None:
    """Write how the replica ended to the file that the process target reads.

    The line in the log is only for people, since the model can write such a line too.
    """
    with contextlib.suppress(OSError):
        if file >= 0:
            os.pwrite(file, json.dumps(end).encode(), 0)
    if is_worth_a_line:
        print(f"supervisor {os.getpid()}: the replica ended: {end['reason']}", file=sys.stderr, flush=True)


def _end_the_rest() -> None:
    """Kill processes that the runtime left behind; they were reparented to the supervisor."""
    while True:
        left = usage.descendants()
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
