"""The command line without a server: help, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers.scheduler import serving

from cpa.cli.commands import app
from cpa.config.workspace import load_workspace
from cpa.orchestrator.rehearsal import rehearse
from cpa.settings import Settings

COMMANDS = [
    command.name or command.callback.__name__ for command in app.registered_commands if command.callback
]
EXPECTED = set(
    """init demo serve submit route intents jobs job files explain cancel retry questions answer approvals audit
    dead-letters replay keys agent agents migrate simulate""".split()  # noqa: SIM905
)


LATIN = os.fsdecode("Größe".encode("latin-1"))
"""As a terminal gives it that is not set to UTF-8."""


def cpa(
    *arguments: str, cwd: Path, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the installed command with an environment of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "cpa", *arguments],
        cwd=cwd,
        env={"LANG": "C.UTF-8"} | kept | environment,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr; fails on a traceback and on chatter."""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_help_lists_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    done = cpa("--help", cwd=tmp_path)

    assert done.returncode == 0
    assert "Exit codes" in done.stdout
    listed = {line.split()[0] for line in done.stdout.split("Commands:")[1].strip().splitlines()}
    assert listed == EXPECTED


@pytest.mark.parametrize("group", [(), ("agents",), ("dead-letters",), ("keys",), ("intents",), ("migrate",)])
def test_what_a_command_does_is_said_whole_on_a_narrow_terminal(
    group: tuple[str, ...], tmp_path: Path
) -> None:
    done = cpa(*group, "--help", cwd=tmp_path, COLUMNS="80")
    commands = done.stdout.split("Commands:")[1].split("\n\n")[0]

    assert "..." not in commands
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(command: str, tmp_path: Path) -> None:
    done = cpa(command.replace("_", "-"), "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert f"cpa {command}" in done.stdout.split("Options:")[1]


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_every_command_about_dead_letters_teaches_by_example(command: str, tmp_path: Path) -> None:
    done = cpa("dead-letters", command, "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert f"cpa dead-letters {command}" in done.stdout.split("Options:")[1]


@pytest.mark.parametrize(
    "command",
    ["list", "show", "drain", "quarantine", "activate", "revoke", "remove", "token", "tokens"],
)
def test_every_command_about_agents_teaches_by_example(command: str, tmp_path: Path) -> None:
    done = cpa("agents", command, "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert f"cpa agents {command}" in done.stdout.split("Options:")[1]


def test_help_is_there_at_once(tmp_path: Path) -> None:
    """Processor time, best of five: a busy machine must not fail the test, a heavy import must."""
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpa("--help", cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(spent) <= 0.3


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    assert cpa("frobnicate", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("jbos", "'jobs'"),
        ("statsu", "'cpa job last'"),
        ("stop", "'cpa cancel'"),
        ("version", "'cpa --version'"),
        ("help", "'cpa --help'"),
        ("inbox", "'cpa questions'"),
        ("dead-letters list", "'cpa dead-letters'"),
        ("dead-letters show", "'cpa job JOB'"),
    ],
)
def test_an_unknown_command_says_which_was_meant(typed: str, meant: str, tmp_path: Path) -> None:
    done = cpa(*typed.split(), cwd=tmp_path)

    assert done.returncode == 2
    assert f"No such command '{typed.split()[-1]}'. Did you mean {meant}?" in done.stderr


def test_no_server_names_the_address_and_the_remedy(tmp_path: Path, free_port: int) -> None:
    done = cpa("jobs", cwd=tmp_path, CPA_URL=f"http://127.0.0.1:{free_port}")

    assert done.returncode == 3
    assert f"http://127.0.0.1:{free_port} cannot be reached" in told(done)
    assert "cpa serve" in told(done)


def test_an_address_that_is_none_is_bad_input(tmp_path: Path) -> None:
    done = cpa("jobs", cwd=tmp_path, CPA_URL="nonsense")

    assert done.returncode == 2
    assert "CPA_URL" in told(done)


def test_a_setting_that_cannot_be_is_named(tmp_path: Path) -> None:
    done = cpa("serve", cwd=tmp_path, CPA_PORT="seventy")

    assert done.returncode == 2
    assert "port" in told(done)


@pytest.mark.parametrize("value", ["127.0.0.1, portal.intern:8443", '["127.0.0.1", "portal.intern:8443"]'])
def test_a_list_is_written_with_commas_or_as_json(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPA_ALLOW_PRIVATE", value)
    monkeypatch.setenv("CPA_FILES", f"{tmp_path}, {tmp_path / 'b'}")
    monkeypatch.setenv("CPA_HOSTS", "")

    found = Settings(_env_file=None)

    assert found.allow_private == ("127.0.0.1", "portal.intern:8443")
    assert found.files == (tmp_path, tmp_path / "b")
    assert found.hosts == ()


def test_a_list_that_is_none_is_named(tmp_path: Path) -> None:
    done = cpa("serve", cwd=tmp_path, CPA_FILES='["a", ')

    assert done.returncode == 2
    assert "files" in told(done)


def test_a_key_that_cannot_be_sent_is_not_shown(tmp_path: Path) -> None:
    for key in ("kéy-geheim", "key-geheim\nx", "key-geheim\r", "key-geheim ", " key-geheim", "key\xa0geheim"):
        done = cpa("jobs", cwd=tmp_path, CPA_API_KEY=key)

        assert done.returncode == 2
        assert "CPA_API_KEY" in told(done)
        assert "holds a character that no key has" in told(done)
        assert "geheim" not in done.stderr


def test_an_idempotency_key_that_cannot_be_sent_is_named(tmp_path: Path) -> None:
    done = cpa("submit", "Zeige alle Kunden", "--idempotency-key", "märz 1", cwd=tmp_path)

    assert done.returncode == 2
    assert told(done).startswith("cpa: --idempotency-key: ")


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    commands = [("intents", "check"), ("submit", "--graph")]
    for command in commands:
        for name in ("fifo", "/dev/zero", "folder"):
            done = cpa(*command, name, cwd=tmp_path)
            assert done.returncode == 2, (command, name)
            assert name in told(done)
    done = cpa("intents", "check", "deep.yaml", cwd=tmp_path)
    assert (done.returncode, "deep" in done.stdout) == (1, True)


def test_a_data_folder_that_cannot_be_is_named(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below", "/proc/x"):
        done = cpa("serve", "--data", folder, "--port", str(free_port), cwd=tmp_path)

        assert done.returncode == 2
        assert told(done).startswith("cpa: data: ")
        assert "--data" in done.stderr


def test_nothing_to_submit_is_bad_input(tmp_path: Path) -> None:
    done = cpa("submit", "", cwd=tmp_path)

    assert done.returncode == 2
    assert "--graph" in told(done)


@pytest.mark.parametrize("content", ["{", "\xff".encode("latin-1")])
def test_a_graph_file_that_is_no_json(content: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = cpa("submit", "--graph", "plan.json", cwd=tmp_path)

    assert done.returncode == 2
    assert "plan.json" in told(done)


@pytest.mark.parametrize(
    "command",
    [
        ("submit", LATIN),
        ("submit", "Zeige alle Kunden", "--reply", f"to={LATIN}"),
        ("submit", "Zeige alle Kunden", "--at", LATIN),
        ("submit", "Zeige alle Kunden", "--idempotency-key", LATIN),
        ("answer", "last.0.0", f"name={LATIN}"),
        ("jobs", "--status", LATIN),
    ],
)
def test_words_that_are_not_utf_8_are_refused_in_one_line(
    command: tuple[str, ...], tmp_path: Path, free_port: int
) -> None:
    done = cpa(*command, cwd=tmp_path, CPA_URL=f"http://127.0.0.1:{free_port}")

    assert done.returncode == 2, done.stderr
    assert "Gr\ufffd\ufffde" in told(done)
    assert "is not UTF-8 text" in told(done)


def test_standard_input_that_is_not_utf_8_is_refused_and_a_mark_at_its_begin_is_taken(tmp_path: Path) -> None:
    wrong = cpa("route", "-", cwd=tmp_path, stdin="Zeige alle Kunden für Köln".encode("latin-1"))
    sentence = "Schreibe eine Mail an anna@kunde.example: „Grüße“"
    marked = cpa("route", "-", cwd=tmp_path, stdin=sentence.encode("utf-8-sig"))

    assert wrong.returncode == 2
    assert told(wrong) == "cpa: standard input is not UTF-8 text (save it as UTF-8)"
    assert marked.returncode == 0, marked.stderr
    assert marked.stdout == cpa("route", sentence, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("plan.json", '[{"id": "a", "arguments": {"value": NaN}}]', "is no JSON: "),
        ("plan.json", '{"tasks": "\\ud800"}', "is no JSON: "),
        ("plan.json", "[" * 100_000, "is no JSON: "),
        ("plan.yaml", "tasks: [{id: a, arguments: {value: .inf}}]", "holds what cannot be sent: "),
        ("plan.yaml", "tasks: &all [*all]", "plan.yaml:1: an anchor or alias"),
        ("plan.yml", "tasks:\n  - id: a\n    id: b", "plan.yml:3: "),
        ("plan.YAML", "nur ein Satz", "is no plan"),
        ("plan.yaml", "", "is no plan"),
        ("plan.yaml", "[" * 100_000, "deep"),
    ],
)
def test_what_is_wrong_in_a_plan_is_said_with_its_file(
    name: str, content: str, said: str, tmp_path: Path, free_port: int
) -> None:
    (tmp_path / name).write_text(content)
    done = cpa("submit", "--graph", name, cwd=tmp_path, CPA_URL=f"http://127.0.0.1:{free_port}")

    assert done.returncode == 2
    assert name in told(done)
    assert said in told(done)
    assert len(told(done)) < 300


def test_a_graph_file_that_is_not_there(tmp_path: Path) -> None:
    done = cpa("submit", "--graph", "plän.json", cwd=tmp_path)

    assert done.returncode == 2
    assert "plän.json" in told(done)


def test_no_store_is_said_for_every_command_that_reads_one(tmp_path: Path) -> None:
    for command in (["audit", "--verify"], ["replay", "nothing"], ["keys", "list"], ["keys", "add", "bot"]):
        done = cpa(*command, cwd=tmp_path)

        assert done.returncode == 2
        assert "cpa-data/cpa.db" in told(done)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C"}]
)
def test_umlauts_survive_any_locale(locale: dict[str, str], tmp_path: Path) -> None:
    done = cpa("submit", "--graph", "größe.json", cwd=tmp_path, **locale)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("other", ["--serve", "--keep-open"])
def test_a_demo_with_agents_does_nothing_else(other: str, tmp_path: Path) -> None:
    done = cpa("demo", "--agents", other, cwd=tmp_path)

    assert done.returncode == 2
    assert f"{other}: " in told(done)
    assert not list(tmp_path.iterdir())


def test_init_writes_a_workspace_and_overwrites_nothing(tmp_path: Path) -> None:
    done = cpa("init", "my-automation", cwd=tmp_path)
    folder = tmp_path / "my-automation"
    written = {path.name: path.read_bytes() for path in folder.iterdir()}

    assert done.returncode == 0
    assert set(written) == {"cpa.yaml", "intents.yaml", "README.md", ".gitignore"}
    # What `cpa serve` and `cpa agent` make there holds keys.
    assert {b"cpa-data/", b"*-agent/"} <= set(written[".gitignore"].splitlines())

    again = cpa("init", "my-automation", cwd=tmp_path)

    assert again.returncode == 1
    assert "nothing is overwritten" in told(again)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written


def test_intents_are_listed_with_an_example_in_each_language(tmp_path: Path) -> None:
    assert cpa("init", "mine", cwd=tmp_path).returncode == 0
    done = cpa("intents", "list", cwd=tmp_path / "mine")
    listed = json.loads(cpa("intents", "list", "--json", cwd=tmp_path / "mine").stdout)["intents"]

    assert done.returncode == 0
    assert listed[0]["name"] == "portal.customers"
    assert all(set(each["examples"]) == {"de", "en"} and each["description"] for each in listed)
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "  de     Zeige mir bitte alle Kunden im Portal\n" in done.stdout
    assert "  needs  customer, to\n" in done.stdout

    alone = cpa("intents", "list", "--intents", "intents.yaml", cwd=tmp_path / "mine")

    assert alone.stdout.startswith("portal.customers\n")
    assert "mail.send" not in alone.stdout


def test_a_reply_fills_what_a_sentence_leaves_open(tmp_path: Path) -> None:
    sentence = "Schicke die Rechnung von ACME"
    open_ = cpa("route", sentence, cwd=tmp_path)
    assert cpa("route", *sentence.split(), cwd=tmp_path).stdout == open_.stdout  # nobody has to quote
    filled = cpa("route", sentence, "--reply", "to=an anna@kunde.example", cwd=tmp_path)
    wrong = cpa("route", sentence, "--reply", "anna@kunde.example", cwd=tmp_path)

    other = cpa("route", sentence, "--reply", "an=anna@kunde.example", cwd=tmp_path)

    assert (open_.returncode, filled.returncode, wrong.returncode, other.returncode) == (1, 0, 2, 2)
    assert "has no argument 'an'" in told(other)
    assert "--reply an" in told(other)
    assert "An welche Mailadresse?" in open_.stdout
    assert "to          anna@kunde.example" in filled.stdout
    assert "--reply to=" in told(wrong)


def test_the_example_of_a_tracker_in_the_workspace_is_right(tmp_path: Path) -> None:
    assert cpa("init", "mine", cwd=tmp_path).returncode == 0
    file = tmp_path / "mine" / "cpa.yaml"
    as_written = load_workspace(file.parent)
    file.write_text(file.read_text("utf-8").replace("  # issues:", "  issues:"), "utf-8")
    with_tracker = load_workspace(file.parent)

    assert len(rehearse(as_written.intents.definitions, as_written.values)) > 0
    assert rehearse(with_tracker.intents.definitions, with_tracker.values) == ()


def test_init_below_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cpa("init", "file/sub", cwd=tmp_path)

    assert done.returncode == 2
    assert "cannot write" in told(done)


BROKEN = """\
version: 1
intents:
  ping.pong:
    description: d
    patterns: [{regex: ping}]
    examples: [ping]
    tasks:
      open: {action: web.gotoo}
      click: {action: web.click, selector: "{{ values.a.b }}", depends_on: [opn]}
"""


def test_check_and_serve_name_all_that_no_plan_can_do(tmp_path: Path) -> None:
    (tmp_path / "cpa.yaml").write_text("version: 1\nintents: [own.yaml]\n", "utf-8")
    (tmp_path / "own.yaml").write_text(BROKEN, "utf-8")

    checked = cpa("intents", "check", "own.yaml", cwd=tmp_path)
    served = cpa("serve", "--workspace", ".", "--data", "data", "--port", "0", cwd=tmp_path)

    assert (checked.returncode, served.returncode) == (1, 2)
    lines = checked.stdout.splitlines()
    assert [line.split(":")[1] for line in lines] == ["8", "9", "9"]
    assert "Did you mean web.goto?" in lines[0]
    assert served.stderr.splitlines() == [f"cpa: {line}" for line in lines]


APPROVED = """\
version: 1
intents:
  ping.pong:
    description: d
    patterns: [{regex: ping}]
    examples: [ping]
    tasks:
      pay: {action: flow.noop, approval: {approvers: [anna, "jörg"]}}
"""


def test_check_and_serve_tell_who_is_to_answer_and_has_no_key(tmp_path: Path) -> None:
    (tmp_path / "cpa.yaml").write_text("version: 1\nintents: [own.yaml]\n", "utf-8")
    (tmp_path / "own.yaml").write_text(APPROVED, "utf-8")
    without_store = cpa("intents", "check", "own.yaml", cwd=tmp_path)
    with serving(tmp_path, "--workspace", ".") as server:
        assert cpa("keys", "add", "anna", cwd=tmp_path).returncode == 0
        reader = cpa("keys", "add", "jörg", "--scope", "read", cwd=tmp_path)
        [line] = [
            json.loads(each) for each in server.log.read_text().splitlines() if "people_without_key" in each
        ]
    checked = cpa("intents", "check", "own.yaml", cwd=tmp_path)
    as_json = json.loads(cpa("intents", "check", "own.yaml", "--json", cwd=tmp_path).stdout)

    assert (without_store.returncode, without_store.stdout.count("\n")) == (0, 1)
    assert line["level"] == "warning"
    assert line["detail"].endswith("make one with `cpa keys add anna`, `cpa keys add jörg`")
    assert (reader.returncode, checked.returncode) == (0, 0), checked.stderr
    told = "nobody has a key by the name of those who are to answer: jörg (ping.pong.pay)"
    assert checked.stdout.splitlines()[1:] == [f"own.yaml: {told}; make one with `cpa keys add jörg`"]
    assert as_json == {"ok": True, "problems": [], "warnings": checked.stdout.splitlines()[1:]}


def test_without_a_workspace_its_values_count_as_there(tmp_path: Path) -> None:
    right = BROKEN.replace("gotoo}", "goto, arguments: {url: http://a.example}}")
    (tmp_path / "own.yaml").write_text(right, "utf-8")
    done = cpa("intents", "check", "own.yaml", cwd=tmp_path)
    assert done.stdout.count("\n") == 1
    assert "Did you mean open?" in done.stdout


@pytest.mark.parametrize(
    ("given", "said", "remedy"),
    [
        (("--only", "lost"), "--only: there is no fault 'lost'", "did you mean loss? there are loss, "),
        (("--without", "loss,brände"), "--without: there is no fault 'brände'", "there are loss, "),
        (("--wire", "draht"), "--wire: there is no wire 'draht'", "there are direct, channel, "),
        (("--core", "--only", "xx"), "--only: there is no fault 'xx'", "; none alone: nothing goes wrong"),
        (
            ("--core", "--jobs", "3"),
            "--jobs: the core alone has one job",
            "so '--jobs 3' says nothing (leave ",
        ),
        (
            ("--core", "--sql"),
            "--sql: the core alone has one job",
            "so '--sql' says nothing (leave --sql out",
        ),
    ],
)
def test_a_simulation_names_the_flag_that_is_wrong_and_what_was_said(
    given: tuple[str, ...], said: str, remedy: str, tmp_path: Path
) -> None:
    done = cpa("simulate", "--runs", "1", *given, cwd=tmp_path)

    assert done.returncode == 2
    assert told(done).startswith(f"cpa: {said}")
    assert remedy in told(done)


def test_moving_jobs_where_there_is_nothing_to_move_needs_no_server(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    missing = cpa("migrate", "engine", "--to", "local", "--data", data, cwd=tmp_path)
    assert (missing.returncode, "no store" in told(missing)) == (2, True)
    assert cpa("migrate", "--data", data, cwd=tmp_path).returncode == 0

    done = cpa("migrate", "engine", "--to", "temporal", "--data", data, "--json", cwd=tmp_path)
    assert done.returncode == 0
    none = {"moved": 0, "ended": 0, "resumed": 0, "problems": [], "undated": []}
    assert json.loads(done.stdout) == {"to": "temporal", "dry_run": False} | none
    before = (tmp_path / "data" / "cpa.db").read_bytes()
    tried = cpa("migrate", "--data", data, "engine", "--to", "local", "--dry-run", cwd=tmp_path)
    assert (tried.returncode, "nothing to move" in tried.stdout) == (0, True)
    assert (tmp_path / "data" / "cpa.db").read_bytes() == before
    assert cpa("migrate", "engine", "--to", "mars", "--data", data, cwd=tmp_path).returncode == 2
