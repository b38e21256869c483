"""A build of an image that meets the removal of another one."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from app.errors import BuildFailed
from app.runtime.docker.engine import Engine
from app.runtime.docker.images import Images
from app.runtime.target import Log

LOST = "failed to get digest sha256:e364: open /var/lib/docker/image/…: no such file or directory"


@pytest.mark.parametrize(
    ("failures", "builds", "succeeds"),
    [([], 1, True), ([LOST], 2, True), ([LOST, LOST], 2, False), (["a step failed"], 1, False)],
)
async def test_a_build_begins_once_more_if_a_layer_of_it_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: list[str], builds: int, succeeds: bool
) -> None:
    contexts: list[bytes] = []
    left = iter(failures)

    async def run_build(_: Images, image: str, context: Any, log: Log) -> None:
        context.seek(0)
        contexts.append(context.read())
        if (failure := next(left, None)) is not None:
            raise BuildFailed(f"The image {image} could not be built: {failure}")

    def write_context(file: io.BufferedIOBase) -> None:
        file.write(b"whole")

    monkeypatch.setattr(Images, "_run_build", run_build)
    images = Images(cast(Engine, object()), "python:{version}-slim", tmp_path, 60, "home")
    with nullcontext() if succeeds else pytest.raises(BuildFailed, match="could not be built"):
        await images._build("prism_model_m", write_context, print)
    assert contexts == [b"whole"] * builds
