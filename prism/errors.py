"""Tree of all errors that the SDK raises; their codes are those of PRISM's problem documents.

    PrismError
    ├── InvalidRequest                a URL, key or argument that no request can be made from
    ├── ConnectionFailed              no answer came: no server, connection lost
    │   └── RequestTimedOut
    ├── FileStopped                   a table file of which not all rows have results
    ├── InvalidResponse               something answered, but it was not PRISM
    └── APIError                      PRISM answered with an error: status, code, detail, hint, request_id
        ├── BadRequestError           400
        │   ├── UnsupportedFormatError
        │   ├── UnreadableArtifactError
        │   ├── MissingCodeError
        │   ├── UnknownPackageError
        │   ├── UnsafeArtifactError
        │   ├── TooLargeError
        │   └── InvalidSettingError
        ├── AuthenticationError       401
        ├── PermissionDeniedError     403
        ├── NotFoundError             404
        ├── ConflictError             409
        │   └── ConsentNeededError
        ├── RateLimitedError          429  retry_after_seconds
        ├── DeployFailedError         422  model_id of what failed
        │   ├── EnvironmentFailedError
        │   ├── BuildFailedError
        │   ├── StartFailedError
        │   └── ProbeFailedError
        ├── TunnelFailedError         502
        ├── ModelCrashedError         500  the request crashed the replica that processed it alone
        ├── StorageFailedError        507
        │   ├── DiskFullError
        │   └── StorageReadOnlyError
        ├── UnavailableError          503  retry_after_seconds
        │   ├── TooManyOpenFilesError
        │   ├── TargetUnavailableError
        │   ├── CatalogUnavailableError
        │   ├── OverloadedError
        │   ├── ReplicaUnavailableError
        │   │   └── ReplicaProtocolError  502
        │   └── ReplicaTimeoutError
        └── ServerError               500

An unknown code falls back to its status, an unknown status to APIError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class PrismError(Exception):
    """Base of all errors: what happened (`detail`) and what to do next (`hint`)."""

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".strip()

    def problem(self) -> dict[str, Any]:
        """Return the error as JSON-able data, in the form of the server's problem documents."""
        document = {"code": type(self).__name__, "detail": self.detail, "hint": self.hint}
        return {name: value for name, value in document.items() if value}


class InvalidRequest(PrismError):
    """Error for a URL, a key or an argument that no request can be made from; nothing was sent."""


class ConnectionFailed(PrismError):
    """Error for a request without an answer. sent: whether the server may have received the request nevertheless."""

    def __init__(self, detail: str, *, hint: str = "", sent: bool) -> None:
        super().__init__(detail, hint=hint)
        self.sent = sent


class RequestTimedOut(ConnectionFailed):
    """Error for a request without an answer in time. The server may still be working on it."""


class FileStopped(PrismError):
    """Error for a table file of which not all rows have results. rows: that have. cause: what stopped it."""

    def __init__(self, detail: str, *, hint: str = "", rows: int, cause: PrismError) -> None:
        super().__init__(detail, hint=hint)
        self.rows = rows
        self.cause = cause

    def problem(self) -> dict[str, Any]:
        return {**self.cause.problem(), **super().problem(), "code": self.cause.problem()["code"], "rows": self.rows}


class InvalidResponse(PrismError):
    """Error for a response that does not come from PRISM or that this SDK cannot read."""


class APIError(PrismError):
    """Error that PRISM answered with, as a problem document (RFC 9457).

    status: of HTTP, or of the recorded problem of a failed deployment. code: stable, e.g. "not_found".
    request_id: finds the request in the server's log. retry_after_seconds: if the server gave one.
    document: the whole problem, with the values involved.
    """

    code: str = ""
    codes: ClassVar[tuple[str, ...]] = ()
    default_status: ClassVar[int] = 0
    """Status whose errors of unknown code get this class; each class states its own, subclasses do not inherit it."""

    def __init__(
        self,
        detail: str,
        *,
        hint: str = "",
        status: int = 0,
        code: str = "",
        request_id: str = "",
        retry_after_seconds: float | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, hint=hint)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds
        self.document = dict(document or {})

    @property
    def model_id(self) -> str:
        """Return the id of the model concerned, "" if the server names none."""
        return str(self.document.get("model_id", ""))

    def problem(self) -> dict[str, Any]:
        mine = {"status": self.status, "code": self.code, "detail": self.detail, "hint": self.hint}
        known = {**mine, "request_id": self.request_id}
        return {**self.document, **{name: value for name, value in known.items() if value}}


class BadRequestError(APIError):
    codes: ClassVar[tuple[str, ...]] = ("bad_input", "request_timeout", "expectation_failed")
    default_status = 400


class UnsupportedFormatError(BadRequestError):
    codes = ("unsupported_format",)
    default_status = 415


class UnreadableArtifactError(BadRequestError):
    codes = ("unreadable_artifact",)


class MissingCodeError(BadRequestError):
    codes = ("missing_code",)


class UnknownPackageError(BadRequestError):
    codes = ("unknown_package",)


class UnsafeArtifactError(BadRequestError):
    codes = ("unsafe_artifact",)


class TooLargeError(BadRequestError):
    codes = ("too_large", "head_too_large")
    default_status = 413


class InvalidSettingError(BadRequestError):
    codes = ("invalid_setting",)


class AuthenticationError(APIError):
    codes = ("unauthorized",)
    default_status = 401


class PermissionDeniedError(APIError):
    codes = ("forbidden",)
    default_status = 403


class NotFoundError(APIError):
    codes = ("not_found",)
    default_status = 404


class ConflictError(APIError):
    codes = ("conflict",)
    default_status = 409


class ConsentNeededError(ConflictError):
    codes = ("consent_needed",)


class RateLimitedError(APIError):
    codes = ("rate_limited",)
    default_status = 429


class DeployFailedError(APIError):
    codes = ("deploy_failed",)


class EnvironmentFailedError(DeployFailedError):
    codes = ("environment_failed",)


class BuildFailedError(DeployFailedError):
    codes = ("build_failed",)


class StartFailedError(DeployFailedError):
    codes = ("start_failed",)


class ProbeFailedError(DeployFailedError):
    codes = ("probe_failed",)


class TunnelFailedError(APIError):
    codes = ("tunnel_failed",)


class ModelCrashedError(APIError):
    codes = ("model_crashed",)


class StorageFailedError(APIError):
    codes = ("storage_failed",)
    default_status = 507


class DiskFullError(StorageFailedError):
    codes = ("disk_full",)


class StorageReadOnlyError(StorageFailedError):
    codes = ("storage_read_only",)


class UnavailableError(APIError):
    codes = ("unavailable",)
    default_status = 503


class TooManyOpenFilesError(UnavailableError):
    codes = ("too_many_open_files",)


class TargetUnavailableError(UnavailableError):
    codes = ("target_unavailable",)


class CatalogUnavailableError(UnavailableError):
    codes = ("catalog_unavailable",)


class OverloadedError(UnavailableError):
    codes = ("overloaded",)


class ReplicaUnavailableError(UnavailableError):
    codes = ("replica_unavailable",)


class ReplicaProtocolError(ReplicaUnavailableError):
    codes = ("replica_protocol_error",)


class ReplicaTimeoutError(UnavailableError):
    codes = ("replica_timeout",)
    default_status = 504


class ServerError(APIError):
    codes = ("internal_error",)
    default_status = 500


def _tree(kind: type[APIError]) -> Iterator[type[APIError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


_BY_CODE = {code: kind for kind in _tree(APIError) for code in kind.codes}
_BY_STATUS = {kind.__dict__["default_status"]: kind for kind in _tree(APIError) if kind.__dict__.get("default_status")}


def error_class(code: str, status: int) -> type[APIError]:
    """Return the class for a problem's code; for an unknown code, the one for its status."""
    by_status = _BY_STATUS.get(status) or (ServerError if status >= 500 else APIError)
    return _BY_CODE.get(code, by_status)


def from_problem(
    document: Mapping[str, Any], *, status: int = 0, request_id: str = "", retry_after_seconds: float | None = None
) -> APIError:
    """Return the error that a problem document describes; `status` is used if the document has none."""
    stated = document.get("status")
    status = stated if isinstance(stated, int) else status
    code = str(document.get("code") or "")
    detail = document.get("detail") or document.get("error") or document.get("title")
    return error_class(code, status)(
        detail if isinstance(detail, str) else f"The server answered with status {status}.",
        hint=str(document.get("hint") or ""),
        status=status,
        code=code,
        request_id=str(document.get("request_id") or request_id),
        retry_after_seconds=retry_after_seconds,
        document=document,
    )
