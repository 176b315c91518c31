"""Every error in a file a person wrote says where it is and what to do."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from cpa.config.explanation import WIDTH, explain_route
from cpa.config.intents import (
    SHIPPED,
    check,
    check_file,
    load_intents,
    load_shipped,
    router_of,
)
from cpa.config.loading import MAX_BYTES, ConfigError, load_file, load_text
from cpa.core.intents import RouteContext
from cpa.errors import BadInput, NotFound, TooLarge

GOOD = """\
version: 1
words:
  room: [room, Raum, Zimmer]
verbs:
  book: {order: [book, buche], plain: [book, buchen]}
intents:
  room.book:
    description: Book a room.
    patterns:
      - regex: "book room (?P<number>\\\\d+)"
      - keywords: {all: [book, room]}
    examples: ["Book room 4", "Buche Raum 4", "Bitte Raum 4 buchen"]
    not_examples: ["Do not book room 4"]
    arguments:
      number: {type: number, required: true, question: {de: "Welcher?", en: "Which one?"}}
    tasks:
      book: {action: flow.noop, arguments: {value: "{{ arguments.number }}"}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "intents.yaml"
    path.write_text(text, "utf-8")
    return path


def test_the_shipped_intents_do_what_their_examples_say() -> None:
    report = check(load_shipped())
    assert report.ok, str(report)
    assert len(report.intents) == 6
    assert report.file == SHIPPED


def test_both_parsers_read_the_shipped_intents_alike() -> None:
    text = files("cpa.config").joinpath(SHIPPED).read_text("utf-8")

    assert load_text(text, SHIPPED, ours=True) == load_text(text, SHIPPED)


def test_an_own_file_with_own_verbs_and_a_regular_expression(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert str(check_file(path)) == f"{path}: 1 intent, 4 sentences tried, all as expected"
    router = router_of([load_shipped(), load_intents(path)])
    intent = router.route("Could you please book room 12?")
    assert (intent.name, intent.values()) == ("room.book", {"number": 12})
    assert router.route("Don't book room 12!").unknown


@pytest.mark.parametrize(
    ("old", "new", "line", "says", "remedy"),
    [
        ("version: 1", "version: 2", 1, "version", "Choose"),
        ('(?P<number>\\\\d+)"', '(?P<number>\\\\d+"', 10, "unterminated", "Mend"),
        ('(?P<number>\\\\d+)"', '(?P<nummer>\\\\d+)"', 7, "'nummer' is no argument", "Declare it"),
        ('(?P<number>\\\\d+)"', '(?:(?:\\\\d+)+)+"', 10, "a repeat inside a repeat", "Write the inner part"),
        ("    description:", "    descripton:", 8, "unknown key 'descripton'", "Did you mean description?"),
        ("    tasks:", "    tasks:\n    tasks:", 17, "already on line 16", "Remove one"),
        ("  room: [room", "  room: &x [room", 3, "anchor", "Write the value itself"),
        ("  room: [room", "  room: [*x, room", 3, "alias", "Write the value itself"),
        (
            "description: Book a room.",
            "description: !!python/name:os.system",
            8,
            "tag",
            "Write the value itself",
        ),
        ("description: Book a room.", "description: [", 10, "", "Check indentation"),
        ("arguments.number }}", "arguments.nr }}", 17, "no argument 'nr'", "Declared are: number."),
        ("arguments.number }}", "arguments.number }", 17, "two opening braces", "Close the reference"),
        ("  room.book:", "  Room Book:", 7, "no name for an intent", "Write it like"),
        ("all: [book, room]", "all: [book, rooom]", 11, "'rooom' is no group", "Did you mean room?"),
        (', question: {de: "Welcher?", en: "Which one?"}', "", 15, "needs a question", "Add question"),
        (
            '"Bitte Raum 4 buchen"',
            '"Bitte Raum 4 buchen", "Sing a song"',
            12,
            "becomes unknown",
            "Make it a verb",
        ),
        ('"Book room 4"', '"Book room"', 12, "leaves open: number", "Name every"),
        ('"Do not book room 4"', '"Book room 5"', 13, "and must not", "narrower"),
        ("type: number", "type: nummer", 15, "email_list", "Choose"),
        ("{all: [book, room]}", "{all: []}", 11, "at least 1", "Add"),
        ("description: Book a room.", "description: 2026-02-31x: 4", 8, "", "Check indentation"),
    ],
)
def test_an_error_names_line_and_remedy(
    tmp_path: Path, old: str, new: str, line: int, says: str, remedy: str
) -> None:
    assert old in GOOD
    report = check_file(write(tmp_path, GOOD.replace(old, new, 1)))
    assert not report.ok
    shown = [str(problem) for problem in report.problems]
    hits = [p for p in report.problems if says in str(p) and remedy in p.remedy]
    assert hits, shown
    assert hits[0].line == line, shown
    assert f"intents.yaml:{line}: " in str(hits[0])


def test_all_errors_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("version: 1", "version: 9").replace("type: number", "type: x")
    assert [problem.line for problem in check_file(write(tmp_path, text)).problems] == [1, 15]


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        load_file(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes("über: 1".encode("latin-1"))
    with pytest.raises(BadInput, match="not UTF-8"):
        load_file(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_text("# " + "x" * MAX_BYTES)
    with pytest.raises(TooLarge):
        load_file(tmp_path / "big.yaml")
    with pytest.raises(BadInput):
        load_file(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "- a", "just words", "a: b: c", "\t- x", "{a: 1", "? [x]\n: 1", "a: \x00", "[" * 5_000]
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    report = check_file(write(tmp_path, text))
    assert not report.ok
    assert all(problem.line >= 1 and problem.remedy for problem in report.problems)


def test_dates_stay_as_written_and_numbers_are_numbers() -> None:
    assert load_text("a: 2026-11-24\nb: 4\nc: 1.5\nd: true\ne:\n").value == {
        "a": "2026-11-24",
        "b": 4,
        "c": 1.5,
        "d": True,
        "e": None,
    }


def test_an_explanation_shows_what_would_happen_and_why() -> None:
    router = router_of([load_shipped()])
    shown = str(explain_route(router, "Please downlaod ACME's latest invoice."))
    assert shown.splitlines() == [
        "intent      portal.invoice.download",
        "            Fetch a customer's latest invoice from the portal.",
        "customer    ACME",
        "confidence  90%, downlaod read as download",
        "words       downlaod, latest, invoice (pattern 0)",
    ]
    shown = str(explain_route(router, "Please downlaod ACME's latest invoice.", all=True))
    assert "sentence    [request] Please downlaod" in shown
    assert "lost        portal.invoice.mail (0): does not say send" in shown


def test_an_explanation_says_what_is_missing_and_fits_a_terminal() -> None:
    router = router_of([load_shipped()])
    lines = explain_route(router, 'Schicke die Rechnung von "ACME".\n\nViele Grüße\nAnna').lines
    assert "to          missing" in lines
    assert "customer    ACME" in lines
    assert "subject     Rechnung  (default)" in lines
    assert "not read    signature" in lines
    assert any(line.startswith("question    An welche Mailadresse? Zum Beispiel:") for line in lines)
    lines = explain_route(router, "Schreibe an anna@kunde.example:\nHallo,\n\nbis morgen.").lines
    assert lines[lines.index("text        Hallo,") + 1 :][:2] == ("", "            bis morgen.")
    for text in ("Bitte nicht schicken", "Hole die Rechnung von ACME und Beta", "Hole die Rechnung " * 20):
        lines = explain_route(router, text).lines
        assert all(len(line) <= WIDTH for line in lines), lines
    shown = str(explain_route(router, "Hole die Rechnung von ACME und Beta"))
    assert "nearly      portal.invoice.download (0): not accounted for: Beta" in shown
    shown = str(explain_route(router, "Bitte nicht schicken"))
    assert "intent      unknown: negated" in shown
    assert "question    Ich habe verstanden" in shown
    assert "typing      downlaod" in str(explain_route(router, "Please downlaod the weather"))


def test_a_reply_is_shown_with_what_became_of_it() -> None:
    context = RouteContext(replies={"to": "an anna@kunde.example"})
    shown = str(explain_route(router_of([load_shipped()]), "Schicke die Rechnung von ACME", context))
    assert "to          anna@kunde.example  (from: an anna@kunde.example)" in shown


@pytest.mark.parametrize(
    ("example", "remedy"),
    [
        ("Reserviers room 4", "verbs: {reserviers: {order: [reserviers]}}"),
        ("Book room 4 gladly", "Name gladly in the pattern's `may`"),
        ("Did you book room 4?", "Add a pattern or words, or move the example."),
    ],
)
def test_an_example_that_is_not_understood_says_what_to_add(
    tmp_path: Path, example: str, remedy: str
) -> None:
    report = check_file(write(tmp_path, GOOD.replace("Book room 4", example, 1)))
    assert remedy in str(report)
    assert "intents.room.book.examples[0]" in str(report)


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("delivery note", "Add words: {delivery_note: [delivery note]} at the top. Write delivery_note."),
        ("look up", "Write look_up."),
    ],
)
def test_a_name_of_several_words_needs_a_group(tmp_path: Path, word: str, remedy: str) -> None:
    report = check_file(write(tmp_path, GOOD.replace("[book, room]", f"[book, {word}]", 1)))
    assert remedy in str(report)
    assert ".keywords.all: " in str(report)


def test_a_word_like_a_common_verb_is_a_word(tmp_path: Path) -> None:
    text = GOOD.replace("[book, room]}", "[book, room], any: [orders, room]}", 1)
    assert (
        check_file(write(tmp_path, text.replace("all: [book, room]", "all: [book, room, orders]"))).ok
        is False
    )
    assert "no group" not in str(check_file(write(tmp_path, text.replace("book, room]", "book, orders]"))))


def test_the_docs_list_what_is_shipped() -> None:
    """Each intent with an example of each language that becomes it."""
    docs = Path(__file__).parents[2] / "docs" / "automations.md"
    rows = [line.split(" | ") for line in docs.read_text("utf-8").splitlines() if line.startswith("| `")]
    listed = {row[0].strip("| `"): row[2:] for row in rows if len(row) == 4}
    router = router_of([load_shipped()])
    for definition in router.definitions:
        for sentence in listed[definition.name]:
            assert router.route(sentence.strip("| ")).name == definition.name


def test_an_error_is_said_once_and_without_the_words_of_a_library(tmp_path: Path) -> None:
    text = GOOD.replace("[room, Raum, Zimmer]", "room", 1).replace("{all: [book, room]}", "{al: [book]}", 1)
    text = text.replace('      - regex: "book room (?P<number>\\\\d+)"\n', "", 1)
    path = write(tmp_path, text)
    assert [str(problem) for problem in check_file(path).problems] == [
        f"{path}:3: words.room: is no list (Write a list: [a, b].)",
        f"{path}:10: intents.room.book.patterns[0].keywords.all: is missing (Add it.)",
        f"{path}:10: intents.room.book.patterns[0].keywords.al: unknown key 'al' (Did you mean all?)",
    ]


def test_two_errors_are_counted_in_the_message() -> None:
    with pytest.raises(ConfigError, match=r"<text>:2: a: the key 'a' is already on line 1 \(and 1 more\)"):
        load_text("a: 1\na: 2\na: 3\n")
