"""The filter's decisions, by running its program as the kernel would."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import pytest

from model_container.sandbox.seccomp import program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = 0x7FFF0000
KILLED = 0x80000000
NUMBERS = {
    "x86_64": {"read": 0, "socket": 41, "connect": 42, "sendto": 44, "clone": 56, "mount": 165, "prctl": 157},
    "aarch64": {"read": 63, "socket": 198, "connect": 203, "sendto": 206, "clone": 220, "mount": 40, "prctl": 167},
}


def decide(
    machine: str,
    number: int,
    arguments: Sequence[int] = (),
    architecture: int | None = None,
    unseen_memory: bool = True,
) -> int:
    """Interprets the classic BPF program over a struct seccomp_data; linux/Documentation/networking/filter.rst."""
    data = number.to_bytes(4, "little") + (architecture or ARCHITECTURES[machine]).to_bytes(4, "little") + bytes(8)
    data += b"".join(value.to_bytes(8, "little") for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6])
    code, position, accumulator = program(machine, unseen_memory), 0, 0
    while True:
        operation, yes, no, operand = code[position]
        position += 1
        if operation == 0x06:
            return operand
        if operation == 0x20:
            accumulator = int.from_bytes(data[operand : operand + 4], "little")
        elif operation == 0x54:
            accumulator &= operand
        else:
            holds = {0x15: accumulator == operand, 0x25: accumulator > operand, 0x45: bool(accumulator & operand)}
            position += yes if holds[operation] else no


def refused(decision: int) -> bool:
    return decision == 0x00050000 | errno.EPERM


@pytest.fixture(params=sorted(ARCHITECTURES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_ordinary_calls_are_allowed(machine: str) -> None:
    assert decide(machine, NUMBERS[machine]["read"], (0, 0, 10)) == ALLOWED


@pytest.mark.parametrize("name", ["connect", "mount"])
def test_calls_no_model_needs_are_refused(machine: str, name: str) -> None:
    assert refused(decide(machine, NUMBERS[machine][name]))


def test_only_stream_sockets_of_unix_can_be_made(machine: str) -> None:
    number = NUMBERS[machine]["socket"]
    close_on_exec = 0o2000000
    assert decide(machine, number, (socket.AF_UNIX, socket.SOCK_STREAM | close_on_exec)) == ALLOWED
    assert refused(decide(machine, number, (socket.AF_UNIX, socket.SOCK_DGRAM)))
    for family in (socket.AF_INET, socket.AF_INET6, 16, 17, 40):  # netlink, packet, vsock
        assert refused(decide(machine, number, (int(family), socket.SOCK_STREAM)))


@pytest.mark.parametrize(
    ("flags", "address", "is_refused"),
    [(0, 0, False), (0x4000, 0, False), (0x20000000, 0, True), (0, 0x7FFF0000, True), (0, 0x7F00000000, True)],
    ids=["plain", "nosignal", "fast open", "address", "address above 4 GiB"],
)
def test_a_send_cannot_name_a_destination(machine: str, flags: int, address: int, is_refused: bool) -> None:
    decision = decide(machine, NUMBERS[machine]["sendto"], (3, 0, 1, flags, address, 16))
    assert refused(decision) == is_refused
    assert is_refused or decision == ALLOWED


def test_threads_and_processes_can_be_made_but_no_namespaces(machine: str) -> None:
    number = NUMBERS[machine]["clone"]
    thread, fork = 0x3D0F00, 0x01200011
    assert decide(machine, number, (thread,)) == decide(machine, number, (fork,)) == ALLOWED
    for bit in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert refused(decide(machine, number, (fork | bit,)))


def test_clone3_is_answered_as_by_an_older_kernel(machine: str) -> None:
    assert decide(machine, 435) == 0x00050000 | errno.ENOSYS


def test_calls_newer_than_the_filter_do_not_exist(machine: str) -> None:
    assert decide(machine, 463) == 0x00050000 | errno.ENOSYS


def test_a_runtime_cannot_let_go_of_its_supervisor(machine: str) -> None:
    assert refused(decide(machine, NUMBERS[machine]["prctl"], (1,)))
    assert decide(machine, NUMBERS[machine]["prctl"], (15,)) == ALLOWED


def test_a_call_of_a_foreign_architecture_ends_the_process(machine: str) -> None:
    assert decide(machine, 0, architecture=0x40000003) == KILLED


def test_the_x32_calls_end_the_process() -> None:
    assert decide("x86_64", 0x40000000 | 41) == KILLED


MEMORY = {
    "x86_64": {"memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68},
    "aarch64": {"memfd_create": 279, "memfd_secret": 447, "shmget": 194, "msgget": 186},
}
MMAP = {"x86_64": 9, "aarch64": 222}


@pytest.mark.parametrize("name", sorted(MEMORY["x86_64"]))
def test_hidden_memory_is_available_only_under_a_control_group(machine: str, name: str) -> None:
    number = MEMORY[machine][name]
    assert decide(machine, number) == ALLOWED
    assert decide(machine, number, unseen_memory=False) == 0x00050000 | errno.ENOSYS


@pytest.mark.parametrize(
    ("flags", "is_refused"),
    [(0x21, True), (0x23, True), (0x22, False), (0x01, False), (0x02, False), (0x4022, False), (0x40021, True)],
    ids=["shared", "shared, checked", "private", "shared file", "private file", "private, reserved", "huge, shared"],
)
def test_a_mapping_without_a_file_is_not_shared_where_no_control_group_counts_it(
    machine: str, flags: int, is_refused: bool
) -> None:
    arguments = (0, 4096, 3, flags)
    assert decide(machine, MMAP[machine], arguments) == ALLOWED
    assert refused(decide(machine, MMAP[machine], arguments, unseen_memory=False)) == is_refused


def test_calls_unrelated_to_memory_are_decided_the_same_either_way(machine: str) -> None:
    for number in (*NUMBERS[machine].values(), 435, 463):
        assert decide(machine, number, unseen_memory=False) == decide(machine, number)
