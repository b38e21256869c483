"""Hostile model files: each is uploaded without consent, those of Python alone with consent, too; none may run outside."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import pickle
import pickletools
import random
import struct
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
from msgspec import Struct

from scripts.attacks.canary import Canary
from scripts.attacks.gadgets import Gadget, gadgets
from scripts.attacks.outcome import Outcome
from scripts.attacks.server import Attacked

SEED = 9
FORMS_EACH = 3
"""Ways to write each gadget; no multiple of all there are, so that neighbours are written differently."""

TORN, CHANGED = 40, 80


class Artifact(Struct, frozen=True):
    """One file to upload. consent: whether its owner says that it may run."""

    label: str
    file_name: str
    content: bytes
    consent: bool = False


def run(server: Attacked, canary: Canary, healthy: bytes) -> Outcome:
    """Upload all of them. healthy: the pickle of a model that is served, to be torn and changed."""
    counts: Counter[str] = Counter()
    breaches: list[str] = []
    for number, artifact in enumerate(artifacts(canary, healthy), 1):
        if number % 50 == 0:
            print(f"attack: {number} files: {dict(counts)}", file=sys.stderr, flush=True)
        before = canary.signs()
        try:
            status = upload(server, artifact)
        except httpx2.TransportError as error:
            status = 0
            breaches.append(f"{artifact.label} got no answer: {error!r}")
            server.revive()
        if status >= 500 and status != 503:
            breaches.append(f"{artifact.label} was answered {status}")
        if canary.signs() != before:
            breaches.append(f"{artifact.label} ran outside the sandbox")
            counts["executed outside"] += 1
        else:
            counts["refused" if status >= 400 and not artifact.consent else "contained"] += 1
    figures = {name: str(counts[name]) for name in ("refused", "contained", "executed outside")}
    return Outcome(f"{counts.total()} hostile model files", figures, tuple(breaches))


def upload(server: Attacked, artifact: Artifact) -> int:
    """The status of the answer. A model that came to life is asked once, then deleted."""
    fields = {"model_name": "hostile", "expected_input_json": "[[1]]"}
    if artifact.consent:
        fields["allow_unsafe"] = "true"
    files = {"file": (artifact.file_name, artifact.content)}
    answer: httpx2.Response = server.http.post("/models/upload-and-run", data=fields, files=files)
    if answer.status_code < 300:
        server.http.post("/models/hostile/predict", json=[[1]])
    for model in server.http.get("/models").json()["models"]:
        if model["name"] == "hostile":
            server.http.delete(f"/models/{model['model_id']}")
    return answer.status_code


def artifacts(canary: Canary, healthy: bytes) -> Iterator[Artifact]:
    every = list(gadgets(canary))
    forms = itertools.cycle(FORMS.items())
    for gadget in every:
        for form, write in itertools.islice(forms, FORMS_EACH):
            yield Artifact(f"{gadget.label} by {form}", "model.pkl", write(gadget))
    for gadget in every[:: len(every) // 10]:
        for name, pack in PACKINGS.items():
            yield Artifact(f"{gadget.label} in {name}", f"model{Path(name).suffix}", pack(by_name(gadget)))
    for gadget in every:
        if not gadget.library:
            yield Artifact(f"{gadget.label} with consent", "model.pkl", by_name(gadget), consent=True)
    yield from damaged(healthy)
    yield from bombs()


# Forms of a call in a pickle ------------------------------------------------------------------------------------------


def arguments_of(gadget: Gadget) -> bytes:
    """The opcodes that put the tuple of arguments on the stack."""
    return pickle.dumps(gadget.arguments, 2)[2:-1]


def by_line(gadget: Gadget) -> bytes:
    return b"c%b\n%b\n%bR." % (gadget.module.encode(), gadget.name.encode(), arguments_of(gadget))


def by_name(gadget: Gadget) -> bytes:
    """Return a pickle with the names on the stack (STACK_GLOBAL), framed as in protocol 4."""
    body = text(gadget.module) + text(gadget.name) + b"\x93" + arguments_of(gadget) + b"R."
    return b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body


def by_instance(gadget: Gadget) -> bytes:
    """INST, which takes what lies above the mark."""
    items = b"".join(pickle.dumps(argument, 2)[2:-1] for argument in gadget.arguments)
    return b"(%bi%b\n%b\n." % (items, gadget.module.encode(), gadget.name.encode())


def by_new_object(gadget: Gadget) -> bytes:
    return b"\x80\x02c%b\n%b\n%b\x81." % (gadget.module.encode(), gadget.name.encode(), arguments_of(gadget))


def in_a_state(gadget: Gadget) -> bytes:
    """Deep in the state of an object that is harmless."""
    state = b"}" + text("a") + b"]" + by_line(gadget)[:-1] + b"a" + b"s"
    return b"\x80\x04csklearn.linear_model._logistic\nLogisticRegression\n)\x81" + state + b"b."


def behind_an_end(gadget: Gadget) -> bytes:
    """In a second pickle, behind the first one's end."""
    return pickle.dumps([1, 2, 3], 4) + by_name(gadget)


def from_the_memo(gadget: Gadget) -> bytes:
    """Return a pickle that takes the names from the memo, where a list of strings left them."""
    names = text("x") + b"\x94" + text(gadget.module) + b"\x94" + text(gadget.name) + b"\x94"
    return b"\x80\x04" + names + b"000h\x01h\x02\x93" + arguments_of(gadget) + b"R."


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


FORMS: dict[str, Callable[[Gadget], bytes]] = {
    "GLOBAL": by_line,
    "STACK_GLOBAL": by_name,
    "INST": by_instance,
    "NEWOBJ": by_new_object,
    "BUILD": in_a_state,
    "a second pickle": behind_an_end,
    "the memo": from_the_memo,
}


# Packings of a pickle -------------------------------------------------------------------------------------------------


def zipped(name: str, content: bytes, **others: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, data in {name: content, **others}.items():
            archive.writestr(member, data)
    return packed.getvalue()


def tarred(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("model.pkl")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


MLMODEL = b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    python_model: model.pkl\n    python_version: 3.11.2\n"

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "zlib.joblib": zlib.compress,
    "gzip.joblib": gzip.compress,
    "bz2.joblib": bz2.compress,
    "lzma.joblib": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "xz.joblib": lzma.compress,
    "plain.joblib": bytes,
    "archive.zip": lambda content: zipped("model.pkl", content),
    "archive.tar.gz": tarred,
    "torch.pt": lambda content: zipped("model/data.pkl", content, **{"model/version": b"3\n"}),
    "mlflow.zip": lambda content: zipped("model.pkl", content, MLmodel=MLMODEL),
}


# Damage and bombs -----------------------------------------------------------------------------------------------------


def damaged(healthy: bytes) -> Iterator[Artifact]:
    """A good file, cut short, or with some bytes or opcodes that are others."""
    chance = random.Random(SEED)
    for number in range(TORN):
        yield Artifact(f"cut {number}", "model.pkl", healthy[: chance.randrange(1, len(healthy) - 1)])
    places = (
        [place for _, _, place in pickletools.genops(healthy) if place is not None] if b"numpy" not in healthy else []
    )
    for number in range(CHANGED):
        content = bytearray(healthy)
        for _ in range(1 + number % 4):
            content[chance.choice(places) if places and number % 2 else chance.randrange(len(content))] = (
                chance.randrange(256)
            )
        yield Artifact(f"changed {number}", "model.pkl", bytes(content))


def bombs() -> Iterator[Artifact]:
    """Small files that ask for a lot of time, memory, depth or disk."""
    yield Artifact("deep tuples", "model.pkl", b"\x80\x02" + b")" + b"\x85" * 100_000 + b".")
    yield Artifact("a doubling list", "model.pkl", b"\x80\x02]q\x00" + b"(h\x00h\x00h\x00h\x00t" * 30_000 + b".")
    yield Artifact(
        "a long integer", "model.pkl", b"\x80\x02\x8b" + struct.pack("<i", 150_000) + b"\x7f" * 150_000 + b"."
    )
    yield Artifact("a huge announced string", "model.pkl", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.")
    yield Artifact("a huge announced frame", "model.pkl", b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.")
    yield Artifact("a huge memo", "model.pkl", b"\x80\x02" + b"Nr\xff\xff\xff\x7f0" * 20_000 + b"N.")
    yield Artifact("many marks", "model.pkl", b"\x80\x02" + b"(" * 150_000 + b"t" * 150_000 + b".")
    for name, pack in (("gzip", gzip.compress), ("zlib", zlib.compress), ("xz", lzma.compress), ("bz2", bz2.compress)):
        yield Artifact(f"a bomb of {name}", "model.joblib", pack(bytes(1 << 27)))
    yield Artifact("a bomb of zip", "model.zip", compressed_zip(bytes(1 << 27)))
    for name in (
        "../../escaped.pkl",
        "/etc/escaped.pkl",
        "a/../../escaped.pkl",
        "C:\\escaped.pkl",
        "x\0y.pkl",
        "\u202e.pkl",
    ):
        yield Artifact(f"a member called {name!r}", "model.zip", zipped(name, pickle.dumps(1)))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        yield Artifact(f"a tar entry of type {kind!r}", "model.tar.gz", linked(kind))
    yield Artifact(
        "YAML that doubles", "model.zip", zipped("MLmodel", doubling_yaml(), **{"model.pkl": pickle.dumps(1)})
    )
    yield Artifact("YAML that makes objects", "model.zip", zipped("MLmodel", b"!!python/object/apply:os.system [id]"))
    nested = b"x = " + b"(" * 50_000 + b")" * 50_000
    yield Artifact("a nested model.py", "model.zip", zipped("model.py", nested))
    yield Artifact("an endless model.py", "model.zip", zipped("model.py", b"x = " + b"-" * 500_000 + b"1"))
    yield Artifact("nested ONNX", "model.onnx", nested_field(7, 5_000))
    yield Artifact("ONNX of many nodes", "model.onnx", b"\x08\x08" + field(7, field(1, b"") * 60_000))
    yield Artifact("an empty file", "model.pkl", b"")
    yield Artifact("a lone surrogate", "model.pkl", b"\x80\x04\x8c\x03\xed\xa0\x80\x8c\x01x\x93)R.")


def compressed_zip(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pkl", content)
    return packed.getvalue()


def linked(kind: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("model.pkl")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    return packed.getvalue()


def doubling_yaml() -> bytes:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    return "\n".join(lines).encode()


def field(number: int, content: bytes) -> bytes:
    """One of a protocol buffer's, with bytes."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def nested_field(number: int, depth: int) -> bytes:
    """A graph in the attribute of a node of a graph, and so on."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x08" + field(number, graph)
