"""Connection settings common to both clients: address, key, httpx2 settings, and errors of the transport."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

import httpx2

from prism import responses
from prism.errors import ConnectionFailed, InvalidRequest, PrismError, RequestTimedOut
from prism.requests import Call, Timeouts
from prism.responses import Answer, Model

DEFAULT_URL = "http://127.0.0.1:8000"
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


def client_settings(base_url: str | None, api_key: str | None, timeouts: Timeouts) -> dict[str, Any]:
    """Return the arguments of `httpx2.Client` and `httpx2.AsyncClient`.

    Raises InvalidRequest for an invalid URL or key.
    """
    address = _address(base_url or os.environ.get("PRISM_URL") or DEFAULT_URL)
    key = (api_key if api_key is not None else os.environ.get("PRISM_API_KEY", "")).strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest(
            "The API key has characters that are not allowed in a header.", hint="Check PRISM_API_KEY."
        )
    return {
        "base_url": address,
        "headers": {"Accept": "application/json", **({"X-API-Key": key} if key else {})},
        "timeout": httpx2.Timeout(timeouts.request_seconds, connect=timeouts.connect_seconds),
        # A proxy from the environment cannot reach this machine's loopback interface.
        "trust_env": not is_loopback(address),
    }


def call_settings(call: Call[Any], timeouts: Timeouts) -> dict[str, Any]:
    """Return the arguments of `request` that do not depend on the body."""
    read = call.read_seconds(timeouts)
    timeout = httpx2.Timeout(timeouts.request_seconds, connect=timeouts.connect_seconds, read=read)
    return {"method": call.method, "url": call.path, "params": dict(call.params), "timeout": timeout}


def answer(response: httpx2.Response) -> Answer:
    """Return the answer of a 2xx response. Raises the matching APIError for any other response."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    received = Answer(response.status_code, headers, response.content)
    if not response.is_success:
        raise responses.failure(received)
    return received


def failure(error: httpx2.RequestError, base_url: str) -> PrismError:
    """Convert a transport error to an error that says what it means to the caller and what to do about it."""
    sent = not isinstance(error, NEVER_SENT)
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
        return InvalidRequest(f"No request can be made to {base_url}: {reason}.", hint="Check the URL and the key.")
    if isinstance(error, httpx2.TimeoutException) and sent:
        return RequestTimedOut(
            f"{base_url} did not answer in time ({type(error).__name__}).",
            hint="It may still be working; `prism status` shows it.",
            sent=True,
        )
    if sent:
        return ConnectionFailed(
            f"The connection to {base_url} was lost before the answer came ({reason}).",
            hint="`prism status` shows whether the server still runs.",
            sent=True,
        )
    return ConnectionFailed(
        f"No PRISM server answers at {base_url} ({reason}).", hint=_how_to_start(base_url), sent=False
    )


def still_deploying(model: Model, timeouts: Timeouts) -> RequestTimedOut:
    name = model.ref or model.model_id
    return RequestTimedOut(
        f"{name} is still {model.status} after {timeouts.deploy_seconds:g} s.",
        hint=f"The deployment continues; `prism models show {name}` shows its progress.",
        sent=True,
    )


def is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _address(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise InvalidRequest(f"{url!r} is not a URL: {error}.", hint=f"Write it like {DEFAULT_URL}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidRequest(f"{url!r} is not an http:// or https:// URL.", hint=f"Write it like {DEFAULT_URL}.")
    return str(parsed).rstrip("/")


def _how_to_start(base_url: str) -> str:
    if is_loopback(base_url):
        return "Start one with `prism run`, or set PRISM_URL to its address."
    return "Check the address (PRISM_URL), and that the server runs there and can be reached from here."
