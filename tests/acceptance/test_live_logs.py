"""A log that is followed: nothing lost and nothing twice, however often the connection is cut."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from prism import Prism
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, wait_for

TALKER = textwrap.dedent("""
    import itertools, threading, time
    class Talker:
        def __getstate__(self):
            return {"a": 1}
        def __setstate__(self, state):
            threading.Thread(target=self.talk, daemon=True).start()
        def talk(self):
            run = f"{time.time():.3f}"
            for number in itertools.count():
                print(f"{run} {number} grüße", flush=True)
                time.sleep(0.004)
        def predict(self, rows):
            return rows
    """)


@pytest.fixture
def server(module_server: StartServer, target: str) -> Server:
    return module_server(PRISM_TARGET=target)


@pytest.fixture
def talker(tmp_path: Path) -> Path:
    script = f"{TALKER}\nimport pickle, sys\nsys.stdout.buffer.write(pickle.dumps(Talker()))"
    path = tmp_path / "talker.pkl"
    path.write_bytes(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout)
    return path


@dataclass
class Reader:
    """A client that speaks the protocol by hand, and cuts its connection after any number of bytes."""

    server: Server
    random: random.Random = field(default_factory=lambda: random.Random(4))
    last_id: str = ""
    lines: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    cuts: int = 0

    def read_once(self) -> None:
        """Connect, read for a while, cut in the middle of something."""
        params = {"follow": "true", "tail": "100000"}
        headers = {"Last-Event-ID": self.last_id} if self.last_id and self.cuts % 2 else {}
        if self.last_id and not headers:
            params["after"] = self.last_id
        try:
            with self.server.http.stream("GET", "/models/talker/logs", params=params, headers=headers) as stream:
                assert stream.status_code == 200, stream.read()
                for count, event in enumerate(events(stream)):
                    self.take(event)
                    if count > self.random.randrange(40):
                        break
        except httpx2.TransportError:
            pass
        self.cuts += 1

    def take(self, event: dict[str, str]) -> None:
        self.last_id = event.get("id", self.last_id)
        match event.get("event", "message"):
            case "message":
                self.lines.append(event["data"])
            case "gap":
                self.gaps.append(event["data"])
            case "end":
                self.ends.append(event["data"])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All the while, in a thread."""
        over = threading.Event()

        def read() -> None:
            while not over.is_set():
                self.read_once()

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def runs(self) -> dict[str, list[int]]:
        """The numbers that each replica counted, in the order in which they came."""
        found: dict[str, list[int]] = {}
        for line in self.lines:
            run, _, rest = line.partition(" ")
            if rest.endswith(" grüße"):
                found.setdefault(run, []).append(int(rest.removesuffix(" grüße")))
        return found


def events(stream: httpx2.Response) -> Iterator[dict[str, str]]:
    """Whole events alone: what was cut off in the middle does not count."""
    event: dict[str, str] = {}
    for line in stream.iter_lines():
        if not line:
            yield event
            event = {}
        else:
            name, _, value = line.partition(": ")
            event[name] = value


def deployed(server: Server, talker: Path) -> None:
    answer = server.upload(
        talker, code={"talker.py": TALKER.encode()}, expected_input_json="[[0]]", model_name="talker"
    )
    assert answer.status_code == 201, answer.text


def test_nothing_is_lost_and_nothing_comes_twice_over_cuts_restarts_and_stops(server: Server, talker: Path) -> None:
    deployed(server, talker)
    reader = Reader(server)
    with reader.reading():
        wait_for(lambda: len(reader.lines) > 300, 60, "some hundred lines")
        assert server.http.post("/models/talker/restart").status_code == 200
        wait_for(lambda: len(reader.runs()) == 2, 60, "the lines of the replica that took over")
        server.http.post("/models/talker/stop")
        wait_for(lambda: "stopped" in reader.ends, 60, "the stream says that the model is stopped")
        server.http.post("/models/talker/start")
        wait_for(lambda: len(reader.runs()) == 3, 60, "the lines after the start")
        count = len(reader.lines)
        wait_for(lambda: len(reader.lines) > count + 100, 60, "more of them")
    assert reader.cuts > 10
    assert reader.gaps == []
    for numbers in reader.runs().values():
        assert numbers == list(range(len(numbers)))


def test_another_gateway_goes_on_where_the_one_that_was_killed_stopped(server: Server, talker: Path) -> None:
    deployed(server, talker)
    reader = Reader(server)
    with reader.reading():
        wait_for(lambda: len(reader.lines) > 100, 60, "a hundred lines")
    server.kill()
    server.start()
    first = len(reader.lines)
    with reader.reading():
        wait_for(lambda: len(reader.lines) > first + 100, 60, "the lines that came meanwhile and after")
    assert reader.gaps == []
    (numbers,) = reader.runs().values()
    assert numbers == list(range(len(numbers)))


def test_the_client_follows_over_a_cut_and_until_the_model_is_stopped(server: Server, talker: Path) -> None:
    deployed(server, talker)
    lines: list[str] = []

    def follow() -> None:
        with Prism(server.url) as prism:
            for line in prism.models.follow_logs("talker", tail=0):
                lines.append(line)

    following = threading.Thread(target=follow)
    following.start()
    wait_for(lambda: len(lines) > 20, 30, "some lines")
    server.kill()
    server.start()
    first = len(lines)
    wait_for(lambda: len(lines) > first + 100, 60, "the lines that came meanwhile and after")
    server.http.post("/models/talker/stop")
    following.join(60)
    assert not following.is_alive()
    numbers = [int(line.split()[1]) for line in lines if line.endswith("grüße")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_place_that_is_not_known_any_more_is_a_gap_that_is_said(server: Server, talker: Path) -> None:
    deployed(server, talker)
    reader = Reader(server, last_id="f1-5-00000000")
    reader.read_once()
    assert len(reader.gaps) == 1
    assert reader.lines[:1] == server.http.get("/models/talker/logs", params={"tail": 100_000}).text.splitlines()[:1]


def test_the_stream_of_a_log_that_says_nothing_gives_signs_of_life(server: Server, iris_file: Path) -> None:
    server.deploy(iris_file)
    with server.http.stream("GET", "/models/iris/logs", params={"follow": "true", "tail": "0"}) as stream:
        assert stream.headers["cache-control"] == "no-cache"
        found = events(stream)
        opening = next(found)
        assert opening["event"] == "alive"
        assert opening["retry"] == "1000"
        place = next(found)
        assert place["event"] == "place"
        assert place["id"]


def test_a_server_that_ends_ends_its_streams(server: Server, iris_file: Path) -> None:
    server.deploy(iris_file)
    with server.http.stream("GET", "/models/iris/logs", params={"follow": "true"}) as stream:
        found = events(stream)
        next(found)
        assert server.process is not None
        server.process.terminate()
        assert [event for event in found if event["event"] == "end"] == [{"event": "end", "data": "closing"}]
    server.process.wait(30)
