"""pip's configuration in uv's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.runtime.packages.index import pip_configuration_files, read_pip_configuration, translate

PRIVATE = "https://bob:s3cret%21@pypi.corp.example/simple"


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        ({}, {}, {"UV_SYSTEM_CERTS": "true"}),
        ({"PIP_INDEX_URL": PRIVATE}, {}, {"UV_DEFAULT_INDEX": PRIVATE}),
        ({}, {"index-url": PRIVATE}, {"UV_DEFAULT_INDEX": PRIVATE}),
        ({"PIP_INDEX_URL": "https://a/"}, {"index-url": PRIVATE}, {"UV_DEFAULT_INDEX": "https://a/"}),
        ({"UV_DEFAULT_INDEX": "https://u/"}, {"index-url": PRIVATE}, {"UV_DEFAULT_INDEX": "https://u/"}),
        ({"PIP_FIND_LINKS": "/wheels https://w/"}, {}, {"UV_FIND_LINKS": "/wheels,https://w/"}),
        ({"PIP_TRUSTED_HOST": "a  b:8443"}, {}, {"UV_INSECURE_HOST": "a b:8443"}),
        ({"PIP_DEFAULT_TIMEOUT": "180"}, {}, {"UV_HTTP_TIMEOUT": "180"}),
        ({"PIP_CERT": "/ca.pem"}, {}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"PIP_CERT": "/ca.pem", "SSL_CERT_FILE": "/system.pem"}, {}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"SSL_CERT_FILE": "/system.pem"}, {"cert": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"REQUESTS_CA_BUNDLE": "/r.pem", "CURL_CA_BUNDLE": "/c.pem"}, {}, {"SSL_CERT_FILE": "/r.pem"}),
        ({"CURL_CA_BUNDLE": "/c.pem"}, {}, {"SSL_CERT_FILE": "/c.pem"}),
        ({"HTTPS_PROXY": "http://p:3128"}, {}, {"https_proxy": "http://p:3128"}),
        ({"https_proxy": "http://low", "HTTPS_PROXY": "http://UP"}, {}, {"https_proxy": "http://low"}),
        ({"NO_PROXY": "localhost,.corp"}, {}, {"no_proxy": "localhost,.corp"}),
        ({}, {"proxy": "p:3128"}, {"https_proxy": "http://p:3128", "http_proxy": "http://p:3128"}),
        ({"UV_INDEX_CORP_PASSWORD": "x"}, {}, {"UV_INDEX_CORP_PASSWORD": "x"}),
    ],
)
def test_pips_configuration_is_passed_to_uv(
    environ: dict[str, str], configured: dict[str, str], expected: dict[str, str]
) -> None:
    variables = translate(environ, configured).uv_environment()
    assert {name: variables.get(name) for name in expected} == expected


def test_with_extra_indexes_the_best_version_of_all_is_taken_as_pip_does() -> None:
    variables = translate({}, {"extra-index-url": "https://one/\nfile:///two"}).uv_environment()
    assert variables["UV_INDEX"] == "https://one/ file:///two"
    assert variables["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_a_strategy_chosen_for_uv_itself_stays() -> None:
    chosen = {"UV_INDEX_STRATEGY": "first-index", "PIP_EXTRA_INDEX_URL": "https://one/"}
    assert translate(chosen, {}).uv_environment()["UV_INDEX_STRATEGY"] == "first-index"


def test_indexes_given_to_uv_by_their_older_names_are_not_joined_by_pips() -> None:
    older = {"UV_INDEX_URL": "https://u/", "UV_EXTRA_INDEX_URL": "https://e/"}
    variables = translate(older, {"index-url": "https://p/", "extra-index-url": "https://x/"}).uv_environment()
    assert {name: value for name, value in variables.items() if "INDEX" in name} == older


def test_nothing_else_of_the_environment_is_passed_on() -> None:
    variables = translate({"PRISM_API_KEYS": "k", "AWS_SECRET_ACCESS_KEY": "s", "UV_PYTHON": "3.8"}, {}).variables
    assert not variables.keys() & {"PRISM_API_KEYS", "AWS_SECRET_ACCESS_KEY", "UV_PYTHON"}


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("off", False), ("", False)])
def test_pip_may_forbid_every_index(value: str, expected: bool) -> None:
    assert translate({"PIP_NO_INDEX": value}, {}).no_index is expected


@pytest.mark.parametrize(
    ("environ", "text", "expected"),
    [
        ({}, "GET https://bob:pw@host/simple", "GET https://***@host/simple"),
        ({}, "GET https://token@host/simple", "GET https://***@host/simple"),
        ({}, "see https://host/a and bob@host", "see https://host/a and bob@host"),
        ({"PIP_INDEX_URL": PRIVATE}, "sent s3cret%21, was s3cret!", "sent ***, was ***"),
        ({"UV_INDEX": "corp=https://bob:hunter22@h/"}, "password hunter22", "password ***"),
        ({"UV_INDEX_CORP_PASSWORD": "hunter22"}, "password hunter22", "password ***"),
        ({"HTTPS_PROXY": "http://bob:hunter22@p:3128"}, "proxy said hunter22", "proxy said ***"),
    ],
)
def test_no_log_line_shows_credentials(environ: dict[str, str], text: str, expected: str) -> None:
    assert translate(environ, {}).redact(text) == expected


def test_later_files_and_the_install_section_override(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("[global]\nindex_url = https://one/\ncert = /one.pem\n[install]\ntrusted-host = i\n")
    second.write_text("[global]\nindex-url = https://two/\ntrusted-host = g\n[freeze]\ncert = /never.pem\n")
    options = read_pip_configuration([first, tmp_path / "absent", second])
    assert options == {"index-url": "https://two/", "cert": "/one.pem", "trusted-host": "i"}


def test_a_file_that_is_not_a_configuration_is_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "pip.conf"
    broken.write_bytes(b"\xff no section")
    assert read_pip_configuration([broken]) == {}


def test_pips_files_are_read_in_pips_order() -> None:
    home, prefix = Path("/home/bob"), Path("/venv")
    files = pip_configuration_files({"PIP_CONFIG_FILE": "/named"}, home, prefix, "linux")
    assert [str(path) for path in files] == [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        "/home/bob/.pip/pip.conf",
        "/home/bob/.config/pip/pip.conf",
        "/venv/pip.conf",
        "/named",
    ]


def test_macos_keeps_its_files_elsewhere(tmp_path: Path) -> None:
    support = tmp_path / "Library" / "Application Support" / "pip"
    assert tmp_path / ".config/pip/pip.conf" in pip_configuration_files({}, tmp_path, Path("/venv"), "darwin")
    support.mkdir(parents=True)
    files = pip_configuration_files({}, tmp_path, Path("/venv"), "darwin")
    assert files[0] == Path("/Library/Application Support/pip/pip.conf")
    assert support / "pip.conf" in files


def test_the_null_device_as_pips_configuration_switches_every_file_off() -> None:
    assert pip_configuration_files({"PIP_CONFIG_FILE": "/dev/null"}, Path("/h"), Path("/v"), "linux") == ()
