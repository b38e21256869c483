"""Parsing of OpenSSH client output: the port that the host granted, and why a tunnel failed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.core.ssh_address import SshAddress
from app.errors import TunnelFailed

ALLOCATED = re.compile(r"Allocated port (\d+) for remote forward")
GRANTED = re.compile(r"debug1: remote forward success for: listen (?:\S+:)?(\d+),")
"""The only message about a forward from an explicitly requested port; ssh prints it with LogLevel DEBUG1."""

# reason → pattern of ssh's message, what happened, and what to do. The first match applies.
SITUATIONS: dict[str, tuple[str, str, str]] = {
    "host_key_changed": (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "{address} has a host key other than the trusted one: it was reinstalled, or another machine answers.",
        "Ask its owner. If the new key is right, forget the old one with `ssh-keygen -R {known_as}`, then connect once: {ssh}",
    ),
    "host_key_unknown": (
        r"Host key verification failed|No .+ host key is known for",
        "The host key of {address} is not trusted yet.",
        "Connect once by hand and compare the fingerprint: {ssh}",
    ),
    "ssh_too_old": (
        r"Bad configuration option",
        "This machine's ssh does not know an option that PRISM or ssh's own configuration uses.",
        "Use OpenSSH 8.7 (2021) or newer, and see `lines` for the option.",
    ),
    "permission_denied": (
        r"Permission denied \(|Too many authentication failures|No supported authentication methods",
        "{address} does not accept this user or key.",
        "Put the public key into its ~/.ssh/authorized_keys, or name the key in PRISM_TUNNEL_SSH_IDENTITY; try: {ssh}",
    ),
    "forwarding_refused": (
        r"remote port forwarding failed|[Rr]emote forward(ing)? (failure|is disabled)|administratively prohibited",
        "{address} accepts the login but refuses to forward {port}.",
        "Its sshd needs `AllowTcpForwarding yes`, and the port must be free and allowed there (PermitListen).",
    ),
    "unresolvable": (
        r"Could not resolve hostname",
        "The host name of {address} cannot be resolved.",
        "Check the name in PRISM_TUNNEL, and this machine's network.",
    ),
    "connection_refused": (
        r"Connection refused",
        "Nothing listens for SSH at {address}.",
        "Check host and port in PRISM_TUNNEL, and that sshd runs there.",
    ),
    "unreachable": (
        r"Connection timed out|Operation timed out|No route to host|Network is unreachable",
        "{address} cannot be reached.",
        "Check this machine's network and firewalls in between.",
    ),
}


def granted_port(line: str) -> int:
    """Return the host's port that is forwarded now; 0 if the line does not name it."""
    match = ALLOCATED.search(line) or GRANTED.match(line)
    return int(match[1]) if match else 0


def diagnose(lines: Sequence[str], address: SshAddress) -> TunnelFailed:
    """Return the error for an ssh process that ended, from its last output lines."""
    messages = [line for line in lines if line and not line.startswith("debug1:")]
    ssh = " ".join(["ssh", *(["-p", str(address.port)] if address.port else []), login(address)])
    known_as = f"[{address.host}]:{address.port}" if address.port not in (0, 22) else address.host
    port = f"port {address.remote_port}" if address.remote_port else "a port"
    for reason, (says, detail, hint) in SITUATIONS.items():
        if any(re.search(says, line) for line in messages):
            words = {"address": address, "ssh": ssh, "known_as": f"'{known_as}'", "port": port}
            return TunnelFailed(detail.format(**words), reason=reason, hint=hint.format(**words), lines=messages)
    message = messages[-1] if messages else "no output"
    return TunnelFailed(
        f"The SSH connection to {address} ended: {message}",
        reason="ended",
        hint=f"Try it by hand: {ssh}",
        lines=messages,
    )


def login(address: SshAddress) -> str:
    return f"{address.user}@{address.host}" if address.user else address.host
