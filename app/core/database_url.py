"""Reads the URL of a PostgreSQL database, as a setting gives it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SCHEME = "postgresql+asyncpg"
"""Scheme of a URL with the driver's name: DATABASE_URL is often set for another program, whose database is not for us."""
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SSL_NAMES = ("ssl", "sslmode")


def database_url(text: str) -> str:
    """Return the URL of a database, `postgresql+asyncpg://user:password@host:port/database`.

    Its only option is `ssl`, or `sslmode`, as hosting services write it. Raises ValueError, whose message begins with a
    verb, to follow the name of a setting, and never contains the password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("is not a URL like postgresql+asyncpg://user:password@host:5432/database") from error
    if parts.scheme != SCHEME:
        raise ValueError(
            f"does not begin with {SCHEME}://. Write it so, or unset it to have the catalog in a file of SQLite"
        )
    if not parts.hostname or port == 0:
        raise ValueError("names no host, as in postgresql+asyncpg://user:password@host:5432/database")
    if not parts.path.strip("/"):
        raise ValueError("names no database, as in postgresql+asyncpg://user:password@host:5432/database")
    options = parse_qsl(parts.query, keep_blank_values=True)
    if unknown := [name for name, mode in options if name not in SSL_NAMES or mode not in SSL_MODES]:
        raise ValueError(f"has the option {unknown[0][:50]}; only ssl= is taken, one of {', '.join(SSL_MODES)}")
    query = urlencode([("ssl", mode) for _, mode in options[-1:]])
    return urlunsplit((SCHEME, parts.netloc, parts.path, query, ""))


def without_password(url: str) -> str:
    """Return where a database is, to be shown: host, port and database."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
