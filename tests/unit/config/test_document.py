"""What config.yaml says, and what is wrong with it, line by line."""

from __future__ import annotations

import pytest

from app.config.checks import problems
from app.config.document import SECTIONS_TO_COME, read_document
from app.settings import Settings

GOOD = """\
# mine
serving:
  port: 9000        # not 8000
  reload: yes
  models_dir: ~
  base_image: 'python:{version}-slim'
  tunnel:
"""


def told(text: str, **environ: str) -> list[tuple[int, str]]:
    return [(one.line, f"{one.message}. {one.hint}".rstrip()) for one in problems(text, environ)]


def test_values_are_text_as_in_the_environment_with_their_lines() -> None:
    document = read_document(GOOD, Settings.model_fields)

    assert not document.problems
    assert [(entry.key, entry.value, entry.line) for entry in document.entries] == [
        ("port", "9000", 3),
        ("reload", "yes", 4),
        ("models_dir", None, 5),
        ("base_image", "python:{version}-slim", 6),
        ("tunnel", None, 7),
    ]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "serving:\n", "serving: ~\n", "---\n", "null\n"])
def test_a_file_may_say_nothing(text: str) -> None:
    assert told(text) == []


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("serving:\n  prot: 1\n", 2, "`prot` is no setting. Did you mean `port`?"),
        ("serving:\n  PRISM_PORT: 1\n", 2, "`PRISM_PORT` is no setting. Did you mean `port`?"),
        ("serving:\n  model-memory-mb: 1\n", 2, "`model-memory-mb` is no setting. Did you mean `model_memory_mb`?"),
        ("serving:\n  zzzzzz: 1\n", 2, "`zzzzzz` is no setting. `prism config get` lists all settings."),
        ("servng:\n  port: 1\n", 1, "`servng` is no section. Did you mean `serving`?"),
        ("provders: {}\n", 1, "`provders` is no section. Did you mean `providers`?"),
        ("port: 1\n", 1, "`port` is a setting, not a section. Put it below `serving:`, indented."),
        ("serving:\n  port: 1\n  port: 2\n", 3, "`port` is there twice; line 2 has it, too."),
        ("serving: {}\nserving: {}\n", 2, "`serving` is there twice; line 1 has it, too."),
        ("serving:\n  api_keys: [a, b]\n", 2, "`api_keys` is not one value. Write several with commas: `a,b`."),
        ("serving: 8000\n", 1, "`serving` holds no settings. Write them below it, indented: `port: 8000`."),
        ("- serving\n", 1, "the file has no sections. Write `serving:` and its settings below, indented."),
        (
            "serving:\n  port: 0x\n",
            2,
            "port='0x': Input should be a valid integer, unable to parse string as an integer.",
        ),
        ("\nserving:\n  enable_tunnel: maybe\n", 3, "enable_tunnel='maybe': Input should be a valid boolean"),
        ("serving:\n  tunnel: ftp://x\n", 2, "tunnel='ftp://x': is neither `ngrok` nor a URL"),
        ("serving:\n  host: ${HOST}\n", 2, "`host`: the environment variable HOST is not set."),
        ("serving:\n  host: ${HO ST}\n", 2, "`host`: `${` begins the name of a variable"),
        ("serving:\n  host: ${HOST\n", 2, "`host`: `${` begins the name of a variable"),
        ("serving:\n  <<: {port: 1}\n", 2, "`<<` is no setting."),
        ("serving:\n  ? [a]\n  : 1\n", 2, "this key is no setting."),
        ("serving:\n\tport: 1\n", 2, "this is not YAML: "),
        ("serving:\n  port: 1\n  x\n", 4, "this is not YAML: "),
        ("a: *b\n", 1, "this is not YAML: found undefined alias"),
        ("serving: {}\n--- \nb: 1\n", 2, "this is not YAML: "),
        ("serving:\n  host: \x00\n", 2, "this is not YAML: special characters are not allowed"),
        ("serving: " + "[" * 20_000, 1, "this is nested too deeply"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_next_step(text: str, line: int, message: str) -> None:
    ((found_line, found),) = told(text)

    assert found_line == line
    assert found.startswith(message)


def test_every_mistake_is_told_not_the_first_alone() -> None:
    text = "serving:\n  port: x\n  max_batch_size: 0\n  host: ${NONE}\n  queue: 3\nporviders: 1\n"

    assert [line for line, _ in told(text)] == [2, 3, 4, 5, 6]


def test_sections_of_the_gateway_to_come_are_known_and_warned_of() -> None:
    text = "providers:\n  openai: {api_key: '${OPENAI_API_KEY}'}\nserver: {port: 8080}\nserving: {port: 1}\n"
    found = problems("".join(f"{name}: {{}}\n" for name in sorted(SECTIONS_TO_COME)), {})

    assert len(found) == len(SECTIONS_TO_COME)
    assert all(one.is_warning for one in found)
    assert told(text) == [
        (1, "`providers` is known, but this version does not serve it yet."),
        (3, "`server` is known, but this version does not serve it yet."),
    ]


def test_a_secret_is_never_part_of_what_is_told() -> None:
    text = "serving:\n  admin_keys: topsecret,,x\n  api_keys: 'topsecret,'\n  ngrok_authtoken: [topsecret]\n"
    found = told(text)

    assert [line for line, _ in found] == [2, 3, 4]
    assert "topsecret" not in str(found)
