"""The port of the Open Inference Protocol over gRPC.

Imported only where PRISM_GRPC_PORT is set: the gRPC library alone takes more memory than all of an idle gateway's own
code.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc
import structlog
from google.protobuf.message import DecodeError

from app.access.hosts import has_passed_proxy
from app.access.keys import extract_api_key
from app.core.os_errors import as_problem, log_fields
from app.core.rollout.keys import HEADER, Identity
from app.errors import BadInput, InvalidSetting, PrismError
from app.http.guard import request_id_from
from app.protocols.callers import Caller
from app.protocols.v2.grpc import inference_pb2 as messages
from app.protocols.v2.grpc.refusal import Refusal, of_error
from app.protocols.v2.grpc.service import Answer, Service

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Caller], Awaitable[Answer]]
Read = Callable[[bytes], Any]
SERVICE = "inference.GRPCInferenceService"
UNEXPECTED = "PRISM has an internal error. The server's log has the details."
UNOFFERED = {
    "SystemSharedMemory": "Shared memory is not supported; send tensors in the request.",
    "CudaSharedMemory": "Shared memory is not supported; send tensors in the request.",
    "TraceSetting": "Tracing is not supported; the server's metrics and the trailing metadata of each prediction give its timings.",
    "LogSettings": "PRISM_LOG_LEVEL sets the log level when the server starts.",
}
"""The explanation for callers of Triton's other methods, by the beginning of the method's name."""


def bound(service: Service, host: str, port: int, max_message_bytes: int) -> grpc.aio.Server:
    """Return a server that is bound to its port but not started. Raises InvalidSetting for a port that is taken."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise two servers could share a port, each with half of the requests
        ]
    )
    server.add_generic_rpc_handlers((handlers(service), Unoffered()))
    try:
        server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise InvalidSetting(
            f"The server cannot listen on {host}:{port} for gRPC.",
            hint="Choose another PRISM_GRPC_PORT, or 0 for none.",
        ) from error
    return server


def handlers(service: Service) -> grpc.GenericRpcHandler:
    methods: dict[str, Method] = {
        "ServerLive": service.server_live,
        "ServerReady": service.server_ready,
        "ServerMetadata": service.server_metadata,
        "ModelReady": service.model_ready,
        "ModelMetadata": service.model_metadata,
        "ModelInfer": service.model_infer,
        "ModelConfig": service.model_config,
        "ModelStatistics": service.model_statistics,
        "RepositoryIndex": service.repository_index,
        "RepositoryModelLoad": service.repository_model_load,
        "RepositoryModelUnload": service.repository_model_unload,
    }
    unary: dict[str, grpc.RpcMethodHandler[bytes, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            answered(name, method, reader(getattr(messages, f"{name}Request"))),
            response_serializer=getattr(messages, f"{name}Response").SerializeToString,
        )
        for name, method in methods.items()
    }
    stream: grpc.RpcMethodHandler[bytes, Any] = grpc.stream_stream_rpc_method_handler(
        streamed(service.model_infer, reader(messages.ModelInferRequest)),
        response_serializer=messages.ModelStreamInferResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {**unary, "ModelStreamInfer": stream})


class Unoffered(grpc.GenericRpcHandler):
    """A handler that refuses Triton's other methods, without looking at the requests."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if service != SERVICE:
            return None
        advice = next((text for start, text in UNOFFERED.items() if method.startswith(start)), "See docs/grpc.md.")

        async def refuse(_: bytes, context: Context) -> bytes:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"This server has no method {method[:100]}. {advice}")
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(refuse)


def reader(kind: Any) -> Read:
    """Return a parser of messages of this kind. It raises BadInput; gRPC's own parser would report a server error."""

    def read(raw: bytes) -> Any:
        try:
            return kind.FromString(raw)
        except DecodeError:
            hint = "Use a client that was generated from the protocol's .proto file."
            raise BadInput(f"The message is not a {kind.DESCRIPTOR.name}.", hint=hint) from None

    return read


def answered(name: str, method: Method, read: Read) -> Callable[[bytes, Context], Awaitable[Any]]:
    """Wrap a method so that every error becomes a status. If the client leaves, its prediction is dropped."""

    async def handle(raw: bytes, context: Context) -> Any:
        caller = caller_of(context)
        named = (("x-request-id", caller.request_id),)
        try:
            answer = await method(read(raw), caller)
        except Exception as error:
            refusal = refusal_of(error, name, caller)
            await context.abort(refusal.code, refusal.text, (*named, *refusal.trailing))
        context.set_trailing_metadata((*named, *answer.trailing.items()))
        return answer.message

    return handle


def streamed(method: Method, read: Read) -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[Any]]:
    """Wrap a method for the requests of one stream, one after another.

    An error answers its request and does not end the stream.
    """

    async def handle(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        caller = caller_of(context)
        async for raw in requests:
            request = messages.ModelInferRequest()
            try:
                request = read(raw)
                yield messages.ModelStreamInferResponse(infer_response=(await method(request, caller)).message)
                continue
            except Exception as error:
                text = refusal_of(error, "ModelStreamInfer", caller).text
            named = messages.ModelInferResponse(id=request.id, model_name=request.model_name)
            yield messages.ModelStreamInferResponse(error_message=text, infer_response=named)

    return handle


def refusal_of(error: Exception, method: str, caller: Caller) -> Refusal:
    """Convert any exception to a status; the details of an unexpected one go to the log alone."""
    if isinstance(error, Refusal):
        return error
    problem = as_problem(error)
    if problem is not error and type(problem) is PrismError:
        log.exception("a request failed unexpectedly", method=method, request_id=caller.request_id)
        return Refusal(500, UNEXPECTED, {})
    if isinstance(error, OSError):
        log.warning("a request met a fault of the storage", method=method, **log_fields(error))
    return of_error(problem)


def caller_of(context: Context) -> Caller:
    """Return the caller of a request. Of several values under one name the first counts, as in REST."""
    sent = {name: value for name, value in reversed(list(context.invocation_metadata() or ())) if type(value) is str}
    key = extract_api_key(sent.get("x-api-key"), sent.get("authorization", ""))
    request_id = request_id_from(sent.get("x-request-id", ""))
    identity = Identity(sent.get(HEADER.lower(), ""), api_key=key)
    return Caller(key, address_of(context.peer()), request_id, not has_passed_proxy(sent), identity)


def address_of(peer: str) -> str:
    """Return the address in gRPC's name for the peer, such as `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    host = unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "unknown"
