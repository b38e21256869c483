"""A case asked of a running gateway: uploaded, predicted over HTTP, deleted."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx2

from scripts.onnx_backend.asking import Different, check_native, check_v2, native_body, v2_body
from scripts.onnx_backend.cases import Reference

LARGEST_SAMPLE_BYTES = 1 << 20
TIMEOUT_SECONDS = 300.0
"""The first model waits until its environment is built."""


class Gateway:
    """url: without a slash at its end. key: of the API; "" where none is asked for."""

    def __init__(self, url: str, key: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._delete_last()
        self._http.close()

    def _delete_last(self) -> None:
        """Only once the next model is live: an environment that no model uses is deleted too."""
        if self._last:
            self._http.delete(f"/models/{self._last}")

    def check(self, case: Reference) -> None:
        """Raises Different, also where the gateway does not answer."""
        try:
            self._check(case)
        except httpx2.HTTPError as error:
            raise Different(f"{case.name}: {error}") from error

    def _check(self, case: Reference) -> None:
        """The case's own request is the sample, as not every graph takes a made-up one."""
        fields = {"model_name": case.name}
        if len(v2_body(case)) < LARGEST_SAMPLE_BYTES:
            fields["expected_input_json"] = v2_body(case).decode()
        files = {"file": (f"{case.name}.onnx", case.model)}
        uploaded = self._http.post("/models/upload-and-run", data=fields, files=files)
        if uploaded.status_code != 201:
            raise Different(f"{case.name}: the upload was answered {uploaded.status_code}: {uploaded.text[:400]}")
        self._delete_last()
        self._last = uploaded.json()["model_id"]
        for body, check in ((v2_body(case), check_v2), (native_body(case), check_native)):
            answer = self._http.post(f"/models/{case.name}/predict", content=body)
            if not case.is_random:
                check(case, answer.status_code, answer.json())
