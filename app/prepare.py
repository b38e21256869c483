"""What a server does before its application is made, whether `app.serve` or uvicorn's own command starts it."""

from __future__ import annotations

import contextlib
import resource

import structlog

from app.access.hosts import is_loopback
from app.config.loading import load_settings, warnings
from app.errors import Forbidden
from app.observe.log import configure_logging
from app.runtime.targets import allowed_targets
from app.settings import Settings

log = structlog.get_logger(__name__)

OPEN_FILES_MAX = 1 << 20
"""More than any server needs, but few enough for a program that loops over all descriptors before it starts another
program.
"""


def prepare() -> Settings:
    """Raise the limit of open files, read and check the settings, set up logging. Raises InvalidSetting, Forbidden."""
    raise_open_files()
    settings = load_settings()
    allowed_targets(settings)
    require_admin_key(settings)
    configure_logging(settings.log_level)
    for warning in warnings():
        log.warning("a section of the settings means nothing yet", detail=warning)
    return settings


def raise_open_files() -> None:
    """Raise the limit of open files as far as the system allows without privileges: each connection takes one.

    These are the connections of clients and those to replicas. A replica sets a limit of its own
    (model_container/sandbox/confine.py); ssh, ngrok and uv need few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS: the kernel may give one process less
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def require_admin_key(settings: Settings) -> None:
    """Raise Forbidden if the server listens beyond this machine without an admin key.

    Uploading a model is running code, so other machines may do it only with a key that is for that.
    """
    if settings.keys_of_admins or is_loopback(settings.host):
        return
    raise Forbidden(
        f"PRISM_HOST={settings.host} lets other machines upload and run models, but no admin key is set.",
        hint="Set PRISM_ADMIN_KEYS (PRISM_API_KEYS permit only predictions), or listen on 127.0.0.1.",
    )
