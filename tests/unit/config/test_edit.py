"""One value changes, and everything else in the file stays to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.document import read_document
from app.config.edit import with_value, without_value
from app.errors import Conflict
from app.settings import Settings

COMMENTED = """\
# The settings of my machine.
providers:            # later
  openai: {api_key: "${KEY}"}

serving:
    # Where it listens.
    port:   8000      # as always
    host: "0.0.0.0"   # all

    target: >-
        docker
    # The end.
"""


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        (COMMENTED, "port", "9000", COMMENTED.replace("8000 ", "9000 ")),
        (COMMENTED, "host", "::1", COMMENTED.replace('"0.0.0.0"', '"::1"')),
        (COMMENTED, "target", "process", COMMENTED.replace(">-\n        docker", "process")),
        (COMMENTED, "queue_length", "5", COMMENTED.replace("docker\n", "docker\n    queue_length: 5\n")),
        ("serving:\n  port: 1", "host", "a b", 'serving:\n  port: 1\n  host: "a b"\n'),
        ("serving:\n  port: 1 # one\n\n# end\n", "host", "a", "serving:\n  port: 1 # one\n  host: a\n\n# end\n"),
        ("serving:\n  port:\n", "port", "1", "serving:\n  port: 1\n"),
        ("serving:  # empty\n# end\n", "port", "1", "serving:  # empty\n  port: 1\n# end\n"),
        ("serving:", "port", "1", "serving:\n  port: 1\n"),
        ("# only a comment", "port", "1", "# only a comment\nserving:\n  port: 1\n"),
        ("cache: {}\n", "port", "1", "cache: {}\nserving:\n  port: 1\n"),
        ("serving: {port: 1} # x\n", "port", "2", "serving: {port: 2} # x\n"),
        ("serving: {port: 1}\n", "host", "a,b", 'serving: {host: "a,b", port: 1}\n'),
        ("serving: {}\n", "host", "a", "serving: {host: a}\n"),
        ("{serving: {port: 1}}\n", "port", "2", "{serving: {port: 2}}\n"),
        ("serving:\r\n  port: 1\r\n", "host", "a", "serving:\r\n  port: 1\r\n  host: a\r\n"),
        ("serving:\n  port: &p 1\n", "port", "2", "serving:\n  port: 2\n"),
        ("serving:\n  host: '${HOST}'\n", "host", "${OTHER}", 'serving:\n  host: "${OTHER}"\n'),
    ],
)
def test_the_line_changes_and_nothing_else(before: str, key: str, value: str, after: str) -> None:
    assert with_value(before, key, value) == after


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        (COMMENTED, "port", COMMENTED.replace("    port:   8000      # as always\n", "")),
        (COMMENTED, "target", COMMENTED.replace("    target: >-\n        docker\n", "")),
        (COMMENTED, "queue_length", COMMENTED),
        ("serving:\n  port: 1\n", "port", "serving:\n"),
        ("serving:\n  port: 1\nother: 2\n", "port", "serving:\nother: 2\n"),
        ("serving:\n  port:\n  host: a", "port", "serving:\n  host: a"),
        ("serving:\n  host: a\n  port:", "port", "serving:\n  host: a\n"),
        ("serving:\r\n  port: 1\r\n  host: a\r\n", "port", "serving:\r\n  host: a\r\n"),
        ("serving:\n  ? port\n  : 1\n", "port", "serving:\n"),
        ("serving: {port: 1} # x\n", "port", "serving: {} # x\n"),
        ("serving: {port: 1, host: a}\n", "port", "serving: {host: a}\n"),
        ("serving: {host: a, port: 1}\n", "port", "serving: {host: a}\n"),
        ("{serving: {port: 1}, other: 2}\n", "port", "{serving: {}, other: 2}\n"),
        ("", "port", ""),
        ("other:\n  port: 1\n", "port", "other:\n  port: 1\n"),
    ],
)
def test_a_setting_is_taken_out_and_nothing_else(before: str, key: str, after: str) -> None:
    assert without_value(before, key) == after


@pytest.mark.parametrize(
    "text",
    [
        "serving:\n  port: 1\n  port: 2\n",
        "serving:\n  port: &p 1\nother: *p\n",
        "serving: [",
    ],
)
def test_what_cannot_be_taken_out_alone_is_refused(text: str) -> None:
    with pytest.raises(Conflict, match="config edit"):
        without_value(text, "port")


def test_a_file_that_is_not_there_begins_with_a_word_of_what_it_is() -> None:
    assert with_value(None, "port", "9000").endswith("\nserving:\n  port: 9000\n")


@pytest.mark.parametrize(
    "text",
    [
        "serving:\n  queue_length: &n 5\n  port: *n\n",
        "serving:\n  port: &n 5\n  queue_length: *n\n",
        "a: &s {port: 1}\nserving: *s\n",
        "serving: ~\n",
        "{a: 1}\n",
        "just text\n",
        "- serving\n",
        "serving: [1]\n",
        "serving:\n\tport: 1\n",
        "serving: {}\nserving: {port: 1}\n",
        "a: 1\n...\n",
    ],
)
def test_what_cannot_be_changed_in_one_place_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(Conflict, match="cannot be set without changing other lines") as refused:
        with_value(text, "port", "9000")

    assert "prism config edit" in refused.value.hint


values = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")), max_size=60)


@given(values, st.sampled_from([None, COMMENTED, "serving: {port: 1}\n", "serving:\n  port: 1"]))
def test_every_value_is_read_back_as_it_was_set(value: str, text: str | None) -> None:
    changed = with_value(text, "tunnel", value)
    entries = {entry.key: entry.value for entry in read_document(changed, Settings.model_fields).entries}

    assert entries["tunnel"] == value
    assert [line for line in (text or "").splitlines() if line.strip().startswith("#")] == [
        line for line in changed.splitlines() if text and line.strip().startswith("#")
    ]
