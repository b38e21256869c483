"""Messages of the ngrok agent, classified into situations, each with its own text and next step.

The worker reports one JSON line per event: {"url": "https://…"} once the tunnel is open, and {"error": reason,
"detail": message} when it cannot be opened or breaks.
"""

from __future__ import annotations

import re

from msgspec import Struct

from app.errors import TunnelFailed

TOKEN_PAGE = "https://dashboard.ngrok.com/get-started/your-authtoken"
ANOTHER_WAY = "Or share over a host of your own: PRISM_TUNNEL=ssh://user@host."

# reason → what happened, and what to do. {said}: the message of ngrok or of the system.
SITUATIONS: dict[str, tuple[str, str]] = {
    "no_token": (
        "ngrok needs the token of an account, and NGROK_AUTHTOKEN is not set.",
        f"Copy yours from {TOKEN_PAGE} into NGROK_AUTHTOKEN and restart the server. {ANOTHER_WAY}",
    ),
    "token_refused": (
        "ngrok does not accept the token in NGROK_AUTHTOKEN: {said}",
        f"Copy it again from {TOKEN_PAGE} and restart the server.",
    ),
    "network_blocked": (
        "ngrok cannot be reached from this machine: {said}",
        "Allow it to reach bin.ngrok.com and connect.ngrok-agent.com, port 443 (a proxy goes into HTTPS_PROXY); an ngrok "
        f"that is installed already goes into PYNGROK_NGROK_PATH. {ANOTHER_WAY}",
    ),
    "too_slow": (
        "The ngrok worker was not ready within {said}.",
        "Try again (the first start downloads ngrok), or raise PRISM_TUNNEL_START_TIMEOUT.",
    ),
    "account_limit": (
        "The ngrok account's limit is reached: {said}",
        "See which agents run at https://dashboard.ngrok.com/agents, and stop one.",
    ),
    "not_installed": (
        "ngrok cannot be installed or run here: {said}",
        "Free some space or fix the permissions there; the path of an installed ngrok goes into PYNGROK_NGROK_PATH.",
    ),
    "ended": ("ngrok ended: {said}", "Try again; ngrok's errors are explained at https://ngrok.com/docs/errors."),
}

TOKEN_REFUSED = {105, 106, 107, 109, 4018, 15013}
ACCOUNT_LIMIT = {108, 324, 725, 726, 727}
CODE = re.compile(r"ERR_NGROK_(\d+)")
NETWORK = re.compile(
    r"no such host|dial tcp|failed to dial|i/o timeout|connection (refused|reset)|network is unreachable"
    r"|no route to host|x509|certificate|proxyconnect|TLS handshake|context deadline exceeded",
    re.I,
)


class NgrokRefusal(Struct, frozen=True):
    """Why there is no tunnel: its reason, and the message received, which ends a sentence of the error text."""

    reason: str
    said: str


def failure(refusal: NgrokRefusal) -> TunnelFailed:
    detail, hint = SITUATIONS.get(refusal.reason, SITUATIONS["ended"])
    return TunnelFailed(detail.format(said=refusal.said), reason=refusal.reason, hint=hint)


def from_agent(error: str) -> NgrokRefusal:
    """Classify an error that the agent logged or returned.

    Only the error's first line and its code are kept: the following lines repeat the token.
    """
    first = re.split(r"\\[nr]|[\r\n]", error.strip(), maxsplit=1)[0].strip(" .")
    code = CODE.search(error)
    message = f"{first} ({code[0]})." if code and code[0] not in first else f"{first}."
    number = int(code[1]) if code else 0
    if number in TOKEN_REFUSED or ("authentication failed" in error and number not in ACCOUNT_LIMIT):
        return NgrokRefusal("token_refused", message)
    if number in ACCOUNT_LIMIT:
        return NgrokRefusal("account_limit", message)
    return NgrokRefusal("network_blocked" if not number and NETWORK.search(error) else "ended", message)
