"""Translates this machine's pip and uv configuration, which says where packages come from, for uv.

Companies configure pip: a private index, a private CA, a proxy. uv reads none of it, so it is translated here.
What is already set for uv itself wins. Sources: https://pip.pypa.io/en/stable/topics/configuration/ and
https://docs.astral.sh/uv/reference/environment/.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

PASSED_ON = frozenset(
    {
        *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY"),
        *("UV_INSECURE_HOST", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "UV_KEYRING_PROVIDER", "UV_CONFIG_FILE"),
        *(
            "UV_HTTP_TIMEOUT",
            "UV_HTTP_RETRIES",
            "UV_OFFLINE",
            "UV_TORCH_BACKEND",
            "UV_CACHE_DIR",
            "UV_LINK_MODE",
            "UV_CREDENTIALS_DIR",
        ),
        *("UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_INSTALLS", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"),
    }
)
OWN_SOURCES = (
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"),
    *("UV_FIND_LINKS", "UV_CONFIG_FILE", "UV_OFFLINE"),
)
"""Variables that say where packages come from, which need not be the internet."""

REPLACING = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE", "UV_OFFLINE")
"""Those of them that say where packages come from instead of the usual index; the others add to it."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")
TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})


class PackageIndex(Struct, frozen=True):
    """The configuration of packages on this machine, for uv.

    variables: what uv needs in its environment. no_index: only `--find-links` locations may be used; uv has no variable
    for it. secrets: passwords of index and proxy URLs, which no log may show. brings_torch: whether the configuration
    says where PyTorch comes from. chooses_torch: whether it says which build of it. replaces_usual: whether the usual
    index is not to be asked.
    """

    variables: dict[str, str]
    no_index: bool = False
    secrets: tuple[str, ...] = ()
    brings_torch: bool = False
    chooses_torch: bool = False
    replaces_usual: bool = False

    def uv_environment(self) -> dict[str, str]:
        return dict(self.variables)

    def redact(self, text: str) -> str:
        """Return `text` without the credentials of any URL, and without known passwords wherever they stand."""
        text = CREDENTIALS.sub("***@", text)
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def machine_index(environ: Mapping[str, str] = os.environ) -> PackageIndex:
    """Read the configuration of this machine and user, afresh: a corrected pip.conf counts at the next build."""
    home = Path(environ.get("HOME") or Path.home())
    files = pip_configuration_files(environ, home, Path(sys.prefix), sys.platform)
    return translate(environ, read_pip_configuration(files))


def pip_configuration_files(environ: Mapping[str, str], home: Path, prefix: Path, platform: str) -> tuple[Path, ...]:
    """Return pip's files in its order, a later one overriding an earlier: global, user, virtual environment, named."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return ()
    configured = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    if platform == "darwin":
        machine = [Path("/Library/Application Support/pip/pip.conf")]
        support = home / "Library" / "Application Support" / "pip"
        user = support / "pip.conf" if support.is_dir() else configured
    else:
        folders = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
        machine = [*(Path(folder) / "pip" / "pip.conf" for folder in folders if folder), Path("/etc/pip.conf")]
        user = configured
    files = [*machine, home / ".pip" / "pip.conf", user, prefix / "pip.conf"]
    return (*files, Path(named)) if named else tuple(files)


def read_pip_configuration(files: Sequence[Path]) -> dict[str, str]:
    """Return the options for `pip install`, by their long names. A file that pip could not read is passed over."""
    general: dict[str, str] = {}
    install: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section, options in (("global", general), ("install", install)):
            if parser.has_section(section):
                options.update({key.replace("_", "-"): value.strip() for key, value in parser.items(section)})
    return {**general, **install}


def translate(environ: Mapping[str, str], configured: Mapping[str, str]) -> PackageIndex:
    """Translate pip's configuration for uv.

    environ: the gateway's environment. configured: pip's options from its files, which PIP_* variables override.
    """

    def option(name: str) -> str:
        return environ.get("PIP_" + name.upper().replace("-", "_"), "").strip() or configured.get(name, "")

    extra = option("extra-index-url").split()
    translated = {
        "UV_DEFAULT_INDEX": option("index-url"),
        "UV_INDEX": " ".join(extra),
        "UV_FIND_LINKS": ",".join(_absolute(place) for place in option("find-links").split()),
        "UV_INSECURE_HOST": " ".join(option("trusted-host").split()),
        "UV_HTTP_TIMEOUT": option("timeout") or environ.get("PIP_DEFAULT_TIMEOUT", ""),
        **_certificates(environ, option("cert")),
        **_proxies(environ, option("proxy")),
    }
    chosen = {name: value for name, value in environ.items() if name in PASSED_ON or name.startswith("UV_INDEX_")}
    chosen = {name: value for name, value in chosen.items() if value}
    if chosen.get("UV_LINK_MODE") == "symlink":  # to a cache that no replica may read
        chosen.pop("UV_LINK_MODE")
    if "UV_INDEX_URL" in chosen:  # the older name of UV_DEFAULT_INDEX; uv would prefer the translated one
        translated.pop("UV_DEFAULT_INDEX")
    if "UV_EXTRA_INDEX_URL" in chosen:
        translated.pop("UV_INDEX")
    variables = {**{name: value for name, value in translated.items() if value}, **chosen}
    if option("cert"):  # a CA given for packages beats the one given for everything
        variables["SSL_CERT_FILE"] = option("cert")
    if extra and "UV_INDEX" in translated:
        # pip takes the best version of all indexes. uv stops at the first index that knows the name, so that an
        # extra index with one old wheel would hide the rest; a machine set up for pip expects pip's rule.
        variables.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    no_index = option("no-index").lower() in TRUE
    # Set to nothing, UV_TORCH_BACKEND means the usual index; uv itself takes no such value.
    chooses_torch = "UV_TORCH_BACKEND" in environ
    return PackageIndex(
        variables,
        no_index,
        _passwords(variables),
        brings_torch=no_index or chooses_torch or any(name in variables for name in OWN_SOURCES),
        chooses_torch=chooses_torch,
        replaces_usual=no_index or any(name in variables for name in REPLACING),
    )


def _certificates(environ: Mapping[str, str], cert: str) -> dict[str, str]:
    named = cert or environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    if named:
        return {"SSL_CERT_FILE": named}
    # As pip does since 24.2: trust what the machine trusts, where a company's CA is usually installed.
    return {"UV_SYSTEM_CERTS": "true"}


def _proxies(environ: Mapping[str, str], proxy: str) -> dict[str, str]:
    """Return the proxy variables in lower case, which all HTTP clients read; curl ignores HTTP_PROXY in upper case."""
    proxies = {name.lower(): environ.get(name.lower()) or environ.get(name, "") for name in PROXIES}
    if proxy:
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        proxies |= {"http_proxy": proxy, "https_proxy": proxy}
    return proxies


def _absolute(place: str) -> str:
    """Make a path absolute, as uv runs in another folder than the one it was written for. URLs stay as they are."""
    return place if "://" in place else os.path.abspath(os.path.expanduser(place))


def _passwords(variables: Mapping[str, str]) -> tuple[str, ...]:
    passwords: set[str] = set()
    for name, value in variables.items():
        if name.endswith("_PASSWORD"):
            passwords.add(value)
        for part in re.split(r"[\s,]+", value):
            # UV_INDEX also takes "name=url"
            password = _password(part[part.find("=") + 1 :] if "=" in part.split("://")[0] else part)
            passwords |= {password, unquote(password)}
    # A very short one would blank out innocent text; the URL rule of `redact` covers it where it matters.
    return tuple(sorted((password for password in passwords if len(password) >= 4), key=len, reverse=True))


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
