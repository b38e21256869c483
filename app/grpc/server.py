"""The port of the Open Inference Protocol over gRPC. Imported only where PRISM_GRPC_PORT is set: gRPC's library alone
takes more memory than all of an idle gateway's own code."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc
import structlog

from app.api.guard import request_id_from
from app.dispatch.admit import sent_key
from app.errors import InvalidSetting, PrismError
from app.grpc import inference_pb2 as messages
from app.grpc.refusal import Refusal, of_error
from app.grpc.service import Answer, Caller, Service

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Caller], Awaitable[Answer]]


def bound(service: Service, host: str, port: int, max_message_bytes: int) -> grpc.aio.Server:
    """A server that has its port and is yet to be started. Raises InvalidSetting for a port that is taken."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else two servers share a port, each with half of the requests
        ]
    )
    server.add_generic_rpc_handlers((handlers(service),))
    try:
        server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise InvalidSetting(
            f"{host}:{port} cannot be listened on for gRPC.", hint="Choose another PRISM_GRPC_PORT, or 0 for none."
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
        "RepositoryIndex": service.repository_index,
        "RepositoryModelLoad": service.repository_model_load,
        "RepositoryModelUnload": service.repository_model_unload,
    }
    unary = {
        name: grpc.unary_unary_rpc_method_handler(
            answered(name, method),
            request_deserializer=getattr(messages, f"{name}Request").FromString,
            response_serializer=getattr(messages, f"{name}Response").SerializeToString,
        )
        for name, method in methods.items()
    }
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", unary)


def answered(name: str, method: Method) -> Callable[[Any, Context], Awaitable[Any]]:
    """The method with every error as a status. A client that leaves cancels it, which drops its prediction."""

    async def handle(request: Any, context: Context) -> Any:
        caller = caller_of(context)
        named = (("x-request-id", caller.request_id),)
        try:
            answer = await method(request, caller)
        except (Refusal, PrismError) as error:
            refusal = of_error(error) if isinstance(error, PrismError) else error
            await context.abort(refusal.code, refusal.text, (*named, *refusal.trailing))
        except Exception:
            log.exception("a request failed unexpectedly", method=name, request_id=caller.request_id)
            text = "PRISM met an error of its own. The server's log has the details."
            await context.abort(grpc.StatusCode.INTERNAL, text, named)
        context.set_trailing_metadata((*named, *answer.trailing.items()))
        return answer.message

    return handle


def caller_of(context: Context) -> Caller:
    """Of several values under one name the first counts, as in REST."""
    sent = {name: value for name, value in reversed(list(context.invocation_metadata() or ())) if type(value) is str}
    key = sent_key(sent.get("x-api-key"), sent.get("authorization", ""))
    return Caller(key, address_of(context.peer()), request_id_from(sent.get("x-request-id", "")))


def address_of(peer: str) -> str:
    """The address in gRPC's name for the other side, as `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    host = unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "unknown"
