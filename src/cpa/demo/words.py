"""What the demo with agents says, in the language of its sentence."""

from __future__ import annotations

from typing import Final

GERMAN: Final[dict[str, str]] = {
    "three agents in processes of their own, two of them come to harm": (
        "drei Agenten in eigenen Prozessen, zweien davon stößt etwas zu"
    ),
    "process {process}": "Prozess {process}",
    "everything up in {seconds:.1f} s": "alles bereit in {seconds:.1f} s",
    "and a sum": "und eine Summe",
    "job {job}": "Auftrag {job}",
    "The calculator says {sum}.": "Der Rechner sagt {sum}.",
    "kill -9 {name}, process {process}, in the middle of the download": (
        "kill -9 {name}, Prozess {process}, mitten im Herunterladen"
    ),
    "{name} is started again, process {process}": "{name} läuft wieder, Prozess {process}",
    "SIGSTOP {name}, process {process}, while it calculates": "SIGSTOP {name}, Prozess {process}, beim Rechnen",
    "SIGCONT {name}: it goes on, and learns that the task was taken away": (
        "SIGCONT {name}: er rechnet weiter und erfährt, dass ihm die Aufgabe genommen wurde"
    ),
    "explain: {task} {status}. {why}": "Erklärung: {task} {status}. {why}",
    "Proved": "Bewiesen",
    "Not proved": "Nicht bewiesen",
    "in {seconds:.1f} s.": "in {seconds:.1f} s.",
    "An agent of your own: docs/EXECUTOR_GUIDE.md; agents on other machines: docs/deployment.md": (
        "Ein eigener Agent: docs/EXECUTOR_GUIDE.md; Agenten auf anderen Rechnern: docs/deployment.md"
    ),
    # -- what is proved
    "the job is done": "der Auftrag ist getan",
    "{count} tasks, status {status}": "{count} Aufgaben, Zustand {status}",
    "the plan sends a mail": "der Plan schickt eine Mail",
    "it has no mail.send": "er hat kein mail.send",
    "the audit trail is what was written: every leaf hashes to its event": (
        "das Protokoll ist, was geschrieben wurde: jedes Blatt hat die Prüfsumme seines Ereignisses"
    ),
    "{count} leaves checked": "{count} Blätter geprüft",
    "the message is in the mailbox of {recipient}, once": "die Nachricht liegt im Postfach von {recipient}, einmal",
    "{count} with Message-ID {id}": "{count} mit der Message-ID {id}",
    "it is addressed to nobody else": "sie ist an niemanden sonst adressiert",
    "its one attachment is the portal's {name}, byte for byte": (
        "ihr einziger Anhang ist {name} aus dem Portal, Byte für Byte"
    ),
    "{size:,} bytes, SHA-256 {digest}, on both sides": "{size} Bytes, SHA-256 {digest}, auf beiden Seiten",
    "{size:,} bytes, SHA-256 {digest}, the portal's is {wanted}": (
        "{size} Bytes, SHA-256 {digest}, die des Portals ist {wanted}"
    ),
    "attachments: {names}": "Anhänge: {names}",
    "both harms are in the history": "beide Störungen stehen in der Geschichte des Auftrags",
    "no task succeeded twice, late answers changed nothing": (
        "keine Aufgabe gelang zweimal, späte Antworten änderten nichts"
    ),
    "{count} events": "{count} Ereignisse",
    "the sum is right": "die Summe stimmt",
}
"""German by what is said in English, with the same places for what is filled in."""


def said(language: str, words: str, **values: object) -> str:
    """The words with what they are filled with; in German where `language` is `de`."""
    return (GERMAN[words] if language == "de" else words).format(**values)
