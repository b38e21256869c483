"""Every error that PRISM reports, as one tree.

    PrismError
    ├── BadInput                 400  the request itself is wrong
    │   ├── UnsupportedFormat    415  not a model file that PRISM serves
    │   ├── UnreadableArtifact   422  damaged, truncated, or not what its name says
    │   ├── MissingCode          422  the pickle needs classes that only its author has
    │   ├── UnknownPackage       422  the artifact needs a package that PRISM does not know and its owner did not allow
    │   ├── UnsafeArtifact       422  dangerous globals without the owner's consent
    │   ├── TooLarge             413  a body or an upload over its limit
    │   ├── HeadTooLarge         431  request line and headers over their limit
    │   ├── ExpectationFailed    417  an unknown Expect header
    │   ├── RequestTimeout       408  the request took too long to arrive
    │   └── InvalidSetting       400  a setting with a bad value; stops the start
    ├── Unauthorized             401
    ├── Forbidden                403
    ├── NotFound                 404
    ├── Conflict                 409
    │   └── ConsentNeeded             sharing without a key and without consent to that
    ├── RateLimited              429  carries Retry-After
    ├── DeployFailed             422  a step of artifact → service did not succeed
    │   ├── EnvironmentFailed         no set of packages satisfies the model
    │   ├── BuildFailed
    │   ├── StartFailed
    │   └── ProbeFailed
    ├── TunnelFailed             502  the link to a shared model could not be opened
    ├── ModelCrashed             500  the request ended the replica that worked on it alone
    ├── StorageFailed            507  data cannot be stored, or the storage itself fails
    │   ├── DiskFull                  no room, or a quota is used up
    │   └── StorageReadOnly           mounted read-only
    └── Unavailable              503  carries Retry-After
        ├── TooManyOpenFiles          the server, or the machine, has no file descriptor left
        ├── TargetUnavailable         Docker was requested and no engine is there
        ├── CatalogUnavailable        the catalog's database does not answer
        ├── Overloaded                a bounded queue is full
        ├── ReplicaUnavailable        no live replica right now
        │   └── ReplicaProtocolError  502  a replica sent an invalid answer
        └── ReplicaTimeout       504  no Retry-After: it would take as long again

One handler renders them as RFC 9457 problem documents; the command line and the pages show the same text.
"""

from __future__ import annotations

from typing import Any, ClassVar

PROBLEM_JSON = "application/problem+json"


class PrismError(Exception):
    """An error with a stable code, an HTTP status, the values involved and the next step.

    detail: what happened, naming the values. hint: what the reader can do next.
    values: extra members of the problem document (JSON-able). headers: response headers that belong to the error.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "PRISM could not answer"

    def __init__(self, detail: str, *, hint: str = "", **values: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.values = values
        self.headers: dict[str, str] = {}

    def problem(self) -> dict[str, Any]:
        """Return the RFC 9457 document, without the members that only the request knows."""
        document: dict[str, Any] = {
            "type": f"/docs/errors#{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.hint:
            document["hint"] = self.hint
        return {**self.values, **document}

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".strip()


class BadInput(PrismError):
    code = "bad_input"
    status = 400
    title = "The request is not valid"


class UnsupportedFormat(BadInput):
    code = "unsupported_format"
    status = 415
    title = "This format is not supported"


class UnreadableArtifact(BadInput):
    code = "unreadable_artifact"
    status = 422
    title = "The model file cannot be read completely"


class MissingCode(BadInput):
    code = "missing_code"
    status = 422
    title = "The model needs code that is not in the file"


class UnknownPackage(BadInput):
    code = "unknown_package"
    status = 422
    title = "The model needs a package that PRISM does not know"


class UnsafeArtifact(BadInput):
    code = "unsafe_artifact"
    status = 422
    title = "The model file would run dangerous code when loaded"


class TooLarge(BadInput):
    code = "too_large"
    status = 413
    title = "The body is larger than the limit"


class HeadTooLarge(BadInput):
    code = "head_too_large"
    status = 431
    title = "The request's headers are larger than the limit"


class ExpectationFailed(BadInput):
    code = "expectation_failed"
    status = 417
    title = "The request expects something that this server does not support"


class RequestTimeout(BadInput):
    code = "request_timeout"
    status = 408
    title = "The request took too long to arrive"


class InvalidSetting(BadInput):
    code = "invalid_setting"
    title = "A setting has an invalid value"


class Unauthorized(PrismError):
    code = "unauthorized"
    status = 401
    title = "A valid API key is needed"

    def __init__(self, detail: str, *, hint: str = "", **values: Any) -> None:
        super().__init__(detail, hint=hint, **values)
        self.headers["WWW-Authenticate"] = "Bearer"


class Forbidden(PrismError):
    code = "forbidden"
    status = 403
    title = "This is not allowed from here"


class NotFound(PrismError):
    code = "not_found"
    status = 404
    title = "Not found"


class Conflict(PrismError):
    code = "conflict"
    status = 409
    title = "Not possible in the current state"


class ConsentNeeded(Conflict):
    code = "consent_needed"
    title = "Sharing needs a key, or consent to share without one"


class RateLimited(PrismError):
    code = "rate_limited"
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_seconds: int, **values: Any) -> None:
        super().__init__(detail, hint=f"Try again in {retry_after_seconds} s.", **values)
        self.headers["Retry-After"] = str(retry_after_seconds)


class DeployFailed(PrismError):
    code = "deploy_failed"
    status = 422
    title = "The model could not be deployed"


class EnvironmentFailed(DeployFailed):
    code = "environment_failed"
    title = "No set of packages satisfies the model's requirements"


class BuildFailed(DeployFailed):
    code = "build_failed"
    title = "The environment could not be built"


class StartFailed(DeployFailed):
    code = "start_failed"
    title = "The model did not load"


class ProbeFailed(DeployFailed):
    code = "probe_failed"
    title = "The model loaded but did not answer its sample"


class TunnelFailed(PrismError):
    """The link to a shared model could not be opened.

    reason: which of the situations it is, e.g. "no_token"; each has its own text and next step.
    """

    code = "tunnel_failed"
    status = 502
    title = "The link could not be opened"

    def __init__(self, detail: str, *, reason: str, hint: str = "", **values: Any) -> None:
        super().__init__(detail, hint=hint, reason=reason, **values)
        self.reason = reason


class ModelCrashed(PrismError):
    code = "model_crashed"
    title = "The model crashed while it worked on this request"


class StorageFailed(PrismError):
    code = "storage_failed"
    status = 507
    title = "The storage failed"


class DiskFull(StorageFailed):
    code = "disk_full"
    title = "The disk is full"


class StorageReadOnly(StorageFailed):
    code = "storage_read_only"
    title = "The storage cannot be written to"


class Unavailable(PrismError):
    code = "unavailable"
    status = 503
    title = "Not available right now"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1, hint: str = "", **values: Any) -> None:
        super().__init__(detail, hint=hint or f"Try again in {retry_after_seconds} s.", **values)
        self.headers["Retry-After"] = str(retry_after_seconds)


class TooManyOpenFiles(Unavailable):
    code = "too_many_open_files"
    title = "No file can be opened right now"


class TargetUnavailable(Unavailable):
    code = "target_unavailable"
    title = "The target where the model runs is not available"


class CatalogUnavailable(Unavailable):
    code = "catalog_unavailable"
    title = "The catalog's database is not available"


class Overloaded(Unavailable):
    code = "overloaded"
    title = "The queue is full"


class ReplicaUnavailable(Unavailable):
    code = "replica_unavailable"
    title = "The model has no live replica right now"


class ReplicaProtocolError(ReplicaUnavailable):
    """A replica sent an invalid answer: its model, or one of its libraries, writes to the connection itself."""

    code = "replica_protocol_error"
    status = 502
    title = "The model sent an invalid answer"

    @classmethod
    def of(cls, fault: str) -> ReplicaProtocolError:
        """Return the error for a breach of the protocol. fault: what was wrong with the data that the replica sent."""
        return cls(f"The replica broke the protocol: {fault}.")


class ReplicaTimeout(Unavailable):
    code = "replica_timeout"
    status = 504
    title = "The model did not answer in time"

    def __init__(self, detail: str, *, hint: str = "", **values: Any) -> None:
        hint = hint or "Send less in one request, or raise PRISM_PREDICT_TIMEOUT_SECONDS."
        super().__init__(detail, hint=hint, **values)
        del self.headers["Retry-After"]
