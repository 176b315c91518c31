"""What failed, and what to do about it, in the language of the request.

A failure is stored as its executor put it, in English; that is what the trail holds. Who asked in German reads it
in German: a sentence that stands here is shown as its translation, and what was filled in is kept. Any other, of an
agent of one's own say, is shown as it was written."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_LONGEST: Final = 1_000
"""Characters of a sentence that is looked up."""

GERMAN: Final[dict[str, str]] = {
    # -- of the scheduler
    "no answer in time": "keine Antwort in der erlaubten Zeit",
    "one agent after the other ended or fell silent while it did this, the last one so: {reason}": (
        "ein Agent nach dem anderen ist dabei abgestürzt oder verstummt, der letzte so: {reason}"
    ),
    "Look at what the task was given (a file, a page) and mend it, then `cpa retry`. If such ends are to be "
    "expected, raise `max_losses` in its `retry`.": (
        "Bitte ansehen, was die Aufgabe bekommen hat (eine Datei, eine Seite), es berichtigen, dann `cpa retry`. "
        "Wenn damit zu rechnen ist, bitte `max_losses` in ihrem `retry` erhöhen."
    ),
    "its agent was restarted": "sein Agent wurde neu gestartet",
    "its agent was not heard of for {seconds} s": "sein Agent war {seconds} s lang nicht zu hören",
    "looked for the effect and did not find it": "die Wirkung wurde gesucht und nicht gefunden",
    "{by} says it did not happen": "{by} sagt, dass es nicht geschehen ist",
    "{by} said no": "{by} hat Nein gesagt",
    "not enough people said yes in time": "nicht genug Personen haben rechtzeitig Ja gesagt",
    "{by} will not say": "{by} will dazu nichts sagen",
    "nobody answered in time": "niemand hat rechtzeitig geantwortet",
    "this is not the action that people said yes to": "das ist nicht die Aktion, zu der Ja gesagt wurde",
    "retry the job: they are asked anew": "bitte den Auftrag wiederholen: es wird neu gefragt",
    "it was done, but its result cannot be kept: {reason}": (
        "es ist geschehen, aber das Ergebnis lässt sich nicht aufbewahren: {reason}"
    ),
    "Ask for less, or have large content stored as a file.": (
        "Bitte weniger abfragen, oder große Inhalte als Datei ablegen lassen."
    ),
    "{action} is {effect}, and the task says {said}": "{action} ist {effect}, und die Aufgabe sagt {said}",
    "write `effect: {effect}` into the task, or leave it out, and hand it in anew with `cpa submit`: a job keeps "
    "its plan": (
        "bitte `effect: {effect}` in die Aufgabe schreiben oder es weglassen, und sie mit `cpa submit` neu "
        "einreichen: ein Auftrag behält seinen Plan"
    ),
    "No executor performs `{action}`.": "Niemand führt `{action}` aus.",
    "`{action}` was cut off after {seconds} s.": "`{action}` wurde nach {seconds} s abgebrochen.",
    "Give the task a longer timeout, or look why its target is slow.": (
        "Bitte der Aufgabe mehr Zeit geben, oder nachsehen, warum ihr Ziel langsam ist."
    ),
    "The executor of `{action}` failed with {kind}.": (
        "Die Ausführung von `{action}` ist mit {kind} gescheitert."
    ),
    "This is a defect of the executor; its log holds the traceback.": (
        "Das ist ein Fehler im Programm; näheres steht im Protokoll."
    ),
    "The executor of `{action}` at agent {agent} failed with {kind}.": (
        "Die Ausführung von `{action}` bei {agent} ist mit {kind} gescheitert."
    ),
    "This is a defect of the executor; the log of agent {agent} says where.": (
        "Das ist ein Fehler im Programm; wo, steht im Protokoll von {agent}."
    ),
    "This is a defect of the function; the log of agent {agent} says where. What people are to read, a function "
    "raises as `Failed`.": (
        "Das ist ein Fehler in der Funktion; wo, steht im Protokoll von {agent}. Was Menschen lesen sollen, meldet "
        "eine Funktion mit `raise Failed(…)`."
    ),
    "Agent {agent} says it is done; the effect was not found, or there is no place to look for it.": (
        "{agent} meldet es als getan; die Wirkung wurde nicht gefunden, oder es gibt keinen Ort, an dem "
        "man sie sehen könnte."
    ),
    "Look at the target; a mail is proved where mail.imap_url in cpa.yaml names the sender's mailbox.": (
        "Bitte am Ziel nachsehen; eine Mail wird bewiesen, wo mail.imap_url in cpa.yaml das Postfach des "
        "Absenders nennt."
    ),
    "The agent that had it was lost{last}; it is done again at {time}.": (
        "Der Agent, der sie hatte, ging verloren{last}; sie wird um {time} noch einmal getan."
    ),
    "Agent {agent} has it (attempt {number}) and has not said yet that it does it.": (
        "{agent} hat sie (Versuch {number}) und noch nicht gesagt, dass er sie tut."
    ),
    "{number}; lost before it: {lost}": "{number}; vorher verloren: {lost}",
    "Look at the agent, its log and `cpa agents show {agent}`: "
    "it answers with `agree`, or names it in its beats.": (
        "Bitte den Agenten ansehen, sein Protokoll und `cpa agents show {agent}`: er sagt `agree`, oder nennt sie "
        "in seinen Herzschlägen."
    ),
    "Agent {told}; it is tried again at {time}.": "{told}; es wird um {time} noch einmal versucht.",
    "{agent} did not take it: {why}": "{agent} hat sie nicht angenommen: {why}",
    "{agent} did not answer within {seconds} s: {trouble}": (
        "{agent} hat nicht innerhalb von {seconds} s geantwortet: {trouble}"
    ),
    "{agent} did not answer within {seconds} s": "{agent} hat nicht innerhalb von {seconds} s geantwortet",
    "Look at the agent: `cpa agents show {agent}`. What may be done twice goes to another one by itself.": (
        "Bitte den Agenten ansehen: `cpa agents show {agent}`. Was zweimal getan werden darf, geht von selbst an "
        "einen anderen."
    ),
    "Wait; it is done again by itself.": "Bitte abwarten; sie wird von selbst noch einmal getan.",
    "Nothing: the job was discarded. `cpa dead-letters retry` takes it up after all.": (
        "Nichts: der Auftrag wurde verworfen. `cpa dead-letters retry` nimmt ihn doch noch auf."
    ),
    "The job is to start at {time}.": "Der Auftrag beginnt um {time}.",
    "Wait; it starts by itself.": "Bitte abwarten; er beginnt von selbst.",
    # -- why nobody takes it
    "No agent does {action}.": "Kein Agent tut {action}.",
    "{action} with the capability '{name}'": "{action} mit der Fähigkeit „{name}“",
    "Start an agent that offers it; the task goes to it by itself.": (
        "Bitte einen Agenten starten, der es anbietet; die Aufgabe geht von selbst an ihn."
    ),
    "The agents that do {action} take nothing new: they drain or are in quarantine.": (
        "Die Agenten für {action} nehmen nichts Neues an: sie laufen aus oder sind in Quarantäne."
    ),
    "Let one work again with `cpa agents activate`, or start another; the task goes to it by itself.": (
        "Bitte einen mit `cpa agents activate` wieder arbeiten lassen oder einen anderen starten; die Aufgabe geht "
        "von selbst an ihn."
    ),
    "The agents that do {action} have not been heard of for three beats.": (
        "Von den Agenten für {action} war seit drei Herzschlägen nichts zu hören."
    ),
    "Start one of them, or another; the task goes to it by itself.": (
        "Bitte einen davon oder einen anderen starten; die Aufgabe geht von selbst an ihn."
    ),
    "The agents that do {action} are there, and not ready: a session is locked or closed.": (
        "Die Agenten für {action} sind da, aber nicht bereit: eine Sitzung ist gesperrt oder geschlossen."
    ),
    "Unlock or open a session, as `cpa agents show` names them; the task goes on by itself.": (
        "Bitte eine Sitzung entsperren oder öffnen, `cpa agents show` nennt sie; die Aufgabe geht von selbst "
        "weiter."
    ),
    "{action} failed again and again at its target or its agents; it is left alone for some seconds.": (
        "{action} ist an seinem Ziel oder seinen Agenten immer wieder gescheitert; es ruht einige Sekunden."
    ),
    "Look after the target; it is tried with one attempt at a time, and goes on by itself.": (
        "Bitte nach dem Ziel sehen; es wird mit einzelnen Versuchen geprüft und geht von selbst weiter."
    ),
    "All agents that do {action} are busy.": "Alle Agenten für {action} sind beschäftigt.",
    "{action} goes on where this job is already: its session is at an agent that is busy.": (
        "{action} geht da weiter, wo dieser Auftrag schon ist: seine Sitzung ist bei einem Agenten, der "
        "beschäftigt ist."
    ),
    "Wait; it goes on by itself, and no other agent could do it.": (
        "Bitte abwarten; es geht von selbst weiter, und kein anderer Agent könnte es."
    ),
    "Wait; or start another agent.": "Bitte abwarten, oder noch einen Agenten starten.",
    "Nobody has a key by the name of {names}.": "Niemand hat einen Schlüssel auf den Namen {names}.",
    "Make one with {commands}, then answer it: `cpa questions`.": (
        "Bitte einen anlegen mit {commands}, dann antworten: `cpa questions`."
    ),
    # -- secrets and arguments
    "the secret '{name}' is not set": "das Geheimnis „{name}“ ist nicht gesetzt",
    "set the file {path} (mode 0600)": "bitte in die Datei {path} schreiben (Rechte 0600)",
    "set the environment variable {variable} or the file {path} (mode 0600)": (
        "bitte in die Umgebungsvariable {variable} oder in die Datei {path} schreiben (Rechte 0600)"
    ),
    "the argument '{name}' of {action} comes from a mail, page, document or model": (
        "das Argument „{name}“ von {action} stammt aus einer Mail, einer Seite, einem Dokument oder "
        "einem Modell"
    ),
    "let the requester or the configuration name '{name}'": (
        "„{name}“ muss die Bitte selbst oder die Konfiguration nennen"
    ),
    # -- files
    "there is no file '{place}'": "die Datei „{place}“ gibt es nicht",
    "check the path, or run the task first that makes the file": (
        "bitte den Pfad prüfen, oder zuerst die Aufgabe ausführen, die die Datei erzeugt"
    ),
    "'{target}' exists and holds something else": "„{target}“ gibt es schon, mit anderem Inhalt",
    "choose another target, or move the old file away first": (
        "bitte ein anderes Ziel wählen, oder die alte Datei zuerst wegräumen"
    ),
    "'{place}' may not be touched: {reason}": "„{place}“ darf nicht angefasst werden: {reason}",
    "give the user that runs the scheduler the right to it": (
        "bitte dem Benutzer, unter dem CPA läuft, das Recht dazu geben"
    ),
    "'{path}' is outside the allowed folders ({allowed})": (
        "„{path}“ liegt außerhalb der erlaubten Ordner ({allowed})"
    ),
    "use a path below one of them, or add the folder to the setting files": (
        "bitte einen Pfad darunter verwenden, oder den Ordner in der Einstellung files ergänzen"
    ),
    "no folder is configured for files": "für Dateien ist kein Ordner eingestellt",
    "name the folders in the setting files": "bitte die Ordner in der Einstellung files nennen",
    "'{place}' cannot be written: {reason}": "„{place}“ lässt sich nicht schreiben: {reason}",
    "make room on the disk": "bitte Platz auf dem Datenträger schaffen",
    # -- mail
    "the SMTP server {server}": "der SMTP-Server {server}",
    "the IMAP server {server}": "der IMAP-Server {server}",
    "no mail account '{name}' is configured": "das Mailkonto „{name}“ ist nicht eingerichtet",
    "set smtp_url, imap_url and mail_from, or name one of the configured accounts": (
        "bitte smtp_url, imap_url und mail_from setzen, oder eines der eingerichteten Konten nennen"
    ),
    "{where} cannot be reached: {reason}": "{where} ist nicht erreichbar: {reason}",
    "{where} refused the user '{user}' ({code})": "{where} hat den Benutzer „{user}“ abgelehnt ({code})",
    "{where} refused the user '{user}'": "{where} hat den Benutzer „{user}“ abgelehnt",
    "check the user in smtp_url and the secret that holds the password": (
        "bitte den Benutzer in smtp_url prüfen, und das Geheimnis mit dem Kennwort"
    ),
    "check the user in imap_url and the secret that holds the password": (
        "bitte den Benutzer in imap_url prüfen, und das Geheimnis mit dem Kennwort"
    ),
    "{where} refused a recipient, so nothing was sent: {shown}": (
        "{where} hat einen Empfänger abgelehnt, darum wurde nichts verschickt: {shown}"
    ),
    "correct or remove the address and retry the job": (
        "bitte die Adresse berichtigen oder weglassen und den Auftrag wiederholen"
    ),
    "{where} refused {what}: {code} {reason}": "{where} hat {what} abgelehnt: {code} {reason}",
    "the message": "die Nachricht",
    "the sender {sender}": "den Absender {sender}",
    "ask whoever runs the mail server why": "bitte beim Betreiber des Mailservers nach dem Grund fragen",
    "send a smaller attachment, or a link to it": (
        "bitte einen kleineren Anhang schicken, oder einen Link darauf"
    ),
    "no protected connection to {where}: {reason}": "keine geschützte Verbindung, {where}: {reason}",
    "the connection to {where} broke: {reason}": "die Verbindung ist abgebrochen, {where}: {reason}",
    "the attachments ({names}) have {size}, the limit is {limit}": (
        "die Anhänge ({names}) haben {size}, erlaubt sind {limit}"
    ),
    "send a smaller file, or put it where the recipient can fetch it and mail the link": (
        "bitte eine kleinere Datei schicken, oder sie zum Abholen ablegen und den Link schicken"
    ),
    "{where} has no folder '{folder}' for '{user}'": "{where} hat für „{user}“ keinen Ordner „{folder}“",
    "check the name of the folder, in the server's own spelling": (
        "bitte den Namen des Ordners prüfen, in der Schreibweise des Servers"
    ),
    # -- web and http
    "no answer within {seconds} s": "keine Antwort innerhalb von {seconds} s",
    "the name {host} was not resolved in time": "der Name {host} wurde nicht rechtzeitig aufgelöst",
    "it is tried again; check this machine's name servers and those of the name if it lasts": (
        "es wird noch einmal versucht; bitte die Nameserver dieses Rechners und die des Namens prüfen, wenn es "
        "dabei bleibt"
    ),
    "the connection broke: {reason}": "die Verbindung ist abgebrochen: {reason}",
    "it is tried again; check whether the service runs": (
        "es wird noch einmal versucht; bitte prüfen, ob der Dienst läuft"
    ),
    "it is tried again; check the service if it lasts": (
        "es wird noch einmal versucht; bitte den Dienst prüfen, wenn es dabei bleibt"
    ),
    "it is tried again; check the mail server if it lasts": (
        "es wird noch einmal versucht; bitte den Mailserver prüfen, wenn es dabei bleibt"
    ),
    "it is tried again; check the disk if it lasts": (
        "es wird noch einmal versucht; bitte den Datenträger prüfen, wenn es dabei bleibt"
    ),
    "it is tried again; check that it runs": "es wird noch einmal versucht; bitte prüfen, ob er läuft",
    "{url} cannot be reached.": "{url} ist nicht erreichbar.",
    "Check that the portal is up, and the address.": (
        "Bitte prüfen, ob das Portal läuft und die Adresse stimmt."
    ),
    "{url} did not load in time.": "{url} wurde nicht rechtzeitig geladen.",
    "{action} did not end in time.": "{action} wurde nicht rechtzeitig fertig.",
    "{action} did not end in time after it was sent.": (
        "{action} wurde nach dem Absenden nicht rechtzeitig fertig."
    ),
    "Not found on the page in time: {selector}": "Auf der Seite nicht rechtzeitig gefunden: {selector}",
    "The nearest there is: {near}": "Am ähnlichsten ist: {near}",
    "Look at the picture.": "Bitte das Bild ansehen.",
    "The element is there, but hidden, disabled, covered or moving.": (
        "Das Element ist da, aber verborgen, gesperrt, verdeckt oder in Bewegung."
    ),
    "Wait for it, or close what covers it.": "Bitte darauf warten, oder schließen, was es verdeckt.",
    "The selector finds {count} elements where one is meant.": (
        "Der Selektor findet {count} Elemente statt einem."
    ),
    "Make it more precise, or take one of them with `>> nth=0`.": (
        "Bitte genauer fassen, oder mit `>> nth=0` eines davon nehmen."
    ),
    "The portal answered with an error ({status}).": (
        "Das Portal hat mit einem Fehler geantwortet ({status})."
    ),
    "It is tried again; if it stays, ask the portal's operator.": (
        "Es wird noch einmal versucht; bleibt es dabei, bitte den Betreiber des Portals fragen."
    ),
    "The portal refused the page ({status}).": "Das Portal hat die Seite verweigert ({status}).",
    "The click started no download in time.": "Der Klick hat nicht rechtzeitig zu einem Download geführt.",
    "The download did not start in time.": "Der Download hat nicht rechtzeitig begonnen.",
    "The download did not finish in time.": "Der Download wurde nicht rechtzeitig fertig.",
    "Give the task a longer timeout.": "Bitte der Aufgabe mehr Zeit geben.",
    "Look at the picture for what the portal shows instead.": (
        "Das Bild zeigt, was statt dessen auf dem Portal steht."
    ),
    "{host}:{port} leads to the non-public address {found}": (
        "{host}:{port} führt zu der nicht öffentlichen Adresse {found}"
    ),
    "{host}:{port} is a local name": "{host}:{port} ist ein Name im lokalen Netz",
    "if it is meant to be reached, add '{host}:{port}' to the server's setting allow_private "
    "(CPA_ALLOW_PRIVATE); '{alone}' alone allows all its ports": (
        "soll sie erreichbar sein, bitte „{host}:{port}“ in der Einstellung allow_private des Servers ergänzen "
        "(CPA_ALLOW_PRIVATE); „{alone}“ allein lässt alle Ports zu"
    ),
    "This job has no open page here, and none that could be restored: a browser session stays with the agent "
    "that began it.": (
        "Dieser Auftrag hat hier keine offene Seite, und es ließ sich keine wiederherstellen: eine Sitzung im "
        "Browser bleibt bei dem Agenten, der sie begonnen hat."
    ),
    "Begin with web.goto. If the job was on a page, retry it: the steps that led there are done again where all of "
    "them may be. Where one may not, say which: `cpa dead-letters retry JOB --again TASK`.": (
        "Bitte mit web.goto beginnen. War der Auftrag schon auf einer Seite, dann bitte wiederholen: die Schritte "
        "dorthin werden noch einmal getan, wo jeder es darf. Wo einer es nicht darf, bitte sagen, welche: "
        "`cpa dead-letters retry JOB --again TASK`."
    ),
    "The page this job was on could not be restored: {why}": (
        "Die Seite, auf der dieser Auftrag war, ließ sich nicht wiederherstellen: {why}"
    ),
    "Retry the job: the steps that led to this page are done again where all of them may be. Where one may not, "
    "say which: `cpa dead-letters retry JOB --again TASK`.": (
        "Bitte den Auftrag wiederholen: die Schritte zu dieser Seite werden noch einmal getan, wo jeder es darf. "
        "Wo einer es nicht darf, bitte sagen, welche: `cpa dead-letters retry JOB --again TASK`."
    ),
    "The browser or its page ended before the step was done.": (
        "Der Browser oder seine Seite endete vor dem Schritt."
    ),
    "Did {action} of task {task} happen? Its outcome is unknown. "
    "After a no it is done again, as long as it has tries left; `cpa cancel` ends the job instead.": (
        "Ist {action} der Aufgabe {task} geschehen? Der Ausgang ist unbekannt. Nach einem Nein wird es noch einmal "
        "getan, solange es Versuche übrig hat; `cpa cancel` beendet stattdessen den Auftrag."
    ),
    "Did {action} of task {task} happen? Its outcome is unknown. "
    "The run is ending: it is not done again after a no.": (
        "Ist {action} der Aufgabe {task} geschehen? Der Ausgang ist unbekannt. "
        "Der Lauf endet gerade: Nach einem Nein wird es nicht noch einmal getan."
    ),
    "Look at the target whether it happened.": "Bitte am Ziel nachsehen, ob es geschehen ist.",
}
"""German for the sentences of the shipped executors and of the scheduler. `{name}` stands for what was filled in;
the tests find every sentence in the code that says it."""

FOR_GOOD: Final[dict[str, tuple[str, str]]] = {
    "it is tried again; check whether the service runs": (
        "check whether the service runs, then `{command}`",
        "bitte prüfen, ob der Dienst läuft, dann `{command}`",
    ),
    "it is tried again; check the service if it lasts": (
        "check the service, then `{command}`",
        "bitte den Dienst prüfen, dann `{command}`",
    ),
    "it is tried again; check this machine's name servers and those of the name if it lasts": (
        "check this machine's name servers and those of the name, then `{command}`",
        "bitte die Nameserver dieses Rechners und die des Namens prüfen, dann `{command}`",
    ),
    "it is tried again; check the mail server if it lasts": (
        "check the mail server, then `{command}`",
        "bitte den Mailserver prüfen, dann `{command}`",
    ),
    "it is tried again; check the disk if it lasts": (
        "check the disk, then `{command}`",
        "bitte den Datenträger prüfen, dann `{command}`",
    ),
    "it is tried again; check that it runs": (
        "check that it runs, then `{command}`",
        "bitte prüfen, ob er läuft, dann `{command}`",
    ),
    "It is tried again; if it stays, ask the portal's operator.": (
        "Ask the portal's operator, then `{command}`.",
        "Bitte den Betreiber des Portals fragen, dann `{command}`.",
    ),
    "": ("Mend the cause, then `{command}`.", "Bitte die Ursache beheben, dann `{command}`."),
}
"""Remedies of what is tried again by itself, and none: what a person does once it is not, in English and German."""

OF_PEOPLE: Final[dict[str, tuple[str, str]]] = {
    "approval_denied": (
        "Nothing, if the no stands. Something else is asked for with `cpa submit`, the same once more with "
        "`{command}`.",
        "Nichts, wenn es beim Nein bleibt. Etwas anderes wird mit `cpa submit` verlangt, dasselbe noch einmal mit "
        "`{command}`.",
    ),
    "declined": (
        "Nothing, if that stands; `{command}` asks once more.",
        "Nichts, wenn es dabei bleibt; `{command}` fragt noch einmal.",
    ),
    "approval_expired": (
        "Tell whoever is to answer, then `{command}`: it asks once more.",
        "Bitte Bescheid sagen, wer antworten soll, dann `{command}`: es wird noch einmal gefragt.",
    ),
    "unanswered": (
        "Tell whoever is to answer, then `{command}`: it asks once more.",
        "Bitte Bescheid sagen, wer antworten soll, dann `{command}`: es wird noch einmal gefragt.",
    ),
}
"""By the code of what failed over people: there is nothing to mend."""

_PLACE: Final = re.compile(r"\\\{(\w+)\\\}")


def translated(text: str, locale: str) -> str:
    """A sentence about a failure in the language of the request, as far as it is known in it."""
    return _german(text) if locale == "de" and len(text) <= _LONGEST else text


def remedy_for_good(text: str, locale: str, *, dead: bool, of_people: str = "") -> str:
    """The remedy of a task that failed and is not tried again by itself. `dead` is whether its job is taken up from
    the dead letters alone, `of_people` the code where it failed over what people said."""
    if (words := OF_PEOPLE.get(of_people) or FOR_GOOD.get(text)) is None:
        return translated(text, locale)
    return words[locale == "de"].format(command="cpa dead-letters retry" if dead else "cpa retry")


@lru_cache(maxsize=1024)
def _german(text: str) -> str:
    for pattern, german in _patterns():
        if found := pattern.fullmatch(text):
            return german.format(**{name: _german(value) for name, value in found.groupdict().items()})
    return text


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Not made before the first failure asks for them: that costs more than the start of a command should."""
    return tuple(
        (re.compile(_PLACE.sub(r"(?P<\1>.+?)", re.escape(english)), re.DOTALL), german)
        for english, german in GERMAN.items()
    )
