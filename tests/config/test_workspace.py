"""`cpa.yaml`: what an installation works with, and how its errors read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpa.config.loading import ConfigError
from cpa.config.workspace import load_workspace
from cpa.errors import NotFound

GOOD = """\
version: 1
values:
  portal: {url: "http://127.0.0.1:8800", user: demo}
files: [inbox, /srv/out]
mail:
  smtp_url: smtp://me@mail.example:587
  imap_url: imaps://me@mail.example
  from: me@mail.example
allow_private: ["127.0.0.1:8800", "[::1]:9", intranet]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "cpa.yaml").write_text(text, "utf-8")
    return folder


def test_without_a_folder_there_are_the_shipped_intents() -> None:
    workspace = load_workspace()
    assert len(workspace.intents.definitions) == 6
    assert workspace.values == {}


def test_a_workspace_holds_what_its_file_says(tmp_path: Path) -> None:
    workspace = load_workspace(write(tmp_path, GOOD))
    assert workspace.values == {"portal": {"url": "http://127.0.0.1:8800", "user": "demo"}}
    assert workspace.files == ((tmp_path / "inbox").resolve(), Path("/srv/out"))
    assert workspace.allow_private == ("127.0.0.1:8800", "[::1]:9", "intranet")
    assert (workspace.smtp_url, workspace.mail_from) == ("smtp://me@mail.example:587", "me@mail.example")
    assert load_workspace(tmp_path / "cpa.yaml") == workspace or workspace.folder == tmp_path


def test_own_intents_replace_shipped_ones_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "version: 1\nintents:\n  mail.send:\n    description: d\n    patterns: [{regex: ping}]\n"
        "    examples: [ping]\n    tasks: [{action: flow.noop}]\n"
    )
    both = load_workspace(write(tmp_path, "version: 1\nintents: [own.yaml]\n")).intents
    assert len(both.definitions) == 6
    assert both.route("ping").name == "mail.send"
    alone = load_workspace(
        write(tmp_path, "version: 1\nintents: [own.yaml]\nshipped_intents: false\n")
    ).intents
    assert [definition.name for definition in alone.definitions] == ["mail.send"]


def test_what_is_not_understood_is_answered_with_own_examples_first(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "version: 1\nintents:\n  own.ping:\n    description: d\n    patterns: [{regex: ping}]\n"
        '    examples: ["Ping the machine", "Bitte ein Ping für die Maschine"]\n    tasks: [{action: flow.noop}]\n'
    )
    router = load_workspace(write(tmp_path, "version: 1\nintents: [own.yaml]\n")).intents
    assert 'For example: "Ping the machine"; "Send a mail' in router.route("asdf").question
    assert (
        "Zum Beispiel: „Bitte ein Ping für die Maschine“; „Schreibe"
        in router.route("Kundenübersicht").question
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("version: 1\n", "version: 1\nvalus: {}\n", 2, "Did you mean values?"),
        ("user: demo", "password: geheim", 3, "a secret in clear"),
        ("user: demo", "api_key: x", 3, "a secret in clear"),
        ("http://127", "http://me:pw@127", 3, "a password in it"),
        ("user: demo", '"a b": 1', 3, "cannot be referred to"),
        ("smtp://me@", "smtp://me:geheim@", 6, "a password in clear"),
        ("smtp://me@mail.example:587", "mail.example", 6, "is no smtp address"),
        ("imaps://me@mail.example", "imaps://me@mail.example:999999", 7, "is no address"),
        ("from: me@mail.example", "from: me", 8, "is no mail address"),
        ("from: me@mail.example", "form: me@mail.example", 8, "Did you mean from?"),
        ("intranet]", "http://intranet]", 9, "is no host"),
        ("files: [", "intents: [none.yaml]\nfiles: [", 4, "there is no file"),
        ("files: [", "shipped_intents: false\nfiles: [", 4, "no intent is left"),
        ("files: [inbox, /srv/out]", "files: inbox", 4, "Write a list"),
    ],
)
def test_an_error_names_line_and_remedy(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load_workspace(write(tmp_path, GOOD.replace(old, new, 1)))
    assert f"cpa.yaml:{line}: " in str(caught.value)
    assert says in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert caught.value.remedy


def test_a_folder_without_a_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cpa\.yaml"):
        load_workspace(tmp_path)
