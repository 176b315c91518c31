"""The verbs of German and English requests, as data.

Verbs are listed by the form in which they can stand, because the form tells a request from a report:

    order    imperative ("schicke", "send"): opens a request
    plain    infinitive ("schicken"): with please, after "could you …", or last in a German note
    second   second person ("schickst"): after "würde mich freuen, wenn du …" and with please
    gerund   "sending": after "would you mind"
    report   participles, past and third person ("geschickt", "sent"): never part of a request

A word may belong to several classes: "give me the list" is both `give` and `get`. A file of intents names a class,
or adds words and classes of its own under `verbs:`. A form `a_b` may have other words between.
"""

from __future__ import annotations

from typing import Final, Literal

Form = Literal["order", "plain", "second", "gerund", "report"]

VERBS: Final[dict[str, dict[str, str]]] = {
    "get": {
        "order": "get fetch download grab retrieve pull obtain give gib gebt hole hol holt besorge besorg lade lad "
        "ladet downloade "
        "beschaffe beschaff ziehe zieh rufe such_heraus such_raus suche_heraus suche_raus",
        "plain": "get fetch download grab retrieve pull obtain give geben holen besorgen laden herunterladen "
        "runterladen downloaden "
        "beschaffen ziehen abrufen herunterzuladen runterzuladen abzurufen abholen rausholen herausholen "
        "heraussuchen raussuchen herauszusuchen rauszusuchen",
        "second": "holst besorgst lädst herunterlädst runterlädst abrufst herunterladet herunterladest "
        "raussuchst "
        "heraussuchst downloadest beschaffst",
        "gerund": "getting fetching downloading grabbing retrieving pulling obtaining",
        "report": "got gets gotten fetched fetches downloaded downloads grabbed retrieved retrieves "
        "pulled obtained holte "
        "geholt besorgt heruntergeladen runtergeladen gedownloadet abgerufen lädt lud beschafft abgeholt",
    },
    "send": {
        "order": "send mail email e-mail forward schicke schick schickt sende sendet maile mailt "
        "emaile versende "
        "verschicke übersende übermittle übermittele leite_weiter leit_weiter leitet_weiter",
        "plain": "send mail email e-mail forward schicken senden mailen emailen versenden verschicken "
        "übersenden "
        "übermitteln weiterleiten zusenden zuschicken zumailen weiterzuleiten zuzusenden zuzuschicken "
        "zusendung übersendung weiterleitung weiterschicken rausschicken abschicken absenden "
        "abzuschicken rauszuschicken leiten_weiter",
        "second": "schickst sendest mailst versendest verschickst übersendest weiterleitest zusendest "
        "zuschickst "
        "weiterschickst leitest_weiter",
        "gerund": "sending mailing emailing e-mailing forwarding",
        "report": "sent sends mailed emailed e-mailed forwarded forwards geschickt gesendet gesandt "
        "gemailt versendet versandt verschickt übersandt übermittelt weitergeleitet schickte schickten "
        "sandte zugeschickt zugesandt abgeschickt rausgeschickt sendete",
    },
    "write": {
        "order": "write compose draft tell inform notify schreibe schreib schreibt verfasse sag sage "
        "teile_mit teil_mit "
        "informiere benachrichtige",
        "plain": "write compose tell inform notify schreiben verfassen sagen mitteilen informieren "
        "benachrichtigen "
        "mitzuteilen",
        "second": "schreibst verfasst sagst mitteilst informierst benachrichtigst",
        "gerund": "writing composing telling informing notifying",
        "report": "wrote writes written told tells informed notified schrieb schrieben geschrieben "
        "gesagt sagte "
        "mitgeteilt informiert benachrichtigt",
    },
    "search": {
        "order": "search find look_up look_for look show list such_heraus such_raus suche_heraus suche_raus "
        "suche such sucht finde find durchsuche "
        "durchsuch zeige zeig "
        "liste_auf recherchiere schau sieh_nach guck",
        "plain": "search find look_up look_for look show list suchen finden durchsuchen zeigen auflisten "
        "recherchieren heraussuchen raussuchen nachsehen nachschauen schauen",
        "second": "suchst findest durchsuchst zeigst",
        "gerund": "searching finding looking showing listing",
        "report": "searched searches found finds looked shown showed listed gesucht gefunden fand durchsucht "
        "gezeigt suchte",
    },
    "export": {
        "order": "export save exportiere exportier exportiert speichere speicher sichere",
        "plain": "export save exportieren speichern sichern abspeichern",
        "second": "exportierst speicherst",
        "gerund": "exporting saving",
        "report": "exported exports saved saves gespeichert exportierte",
    },
    "create": {
        "order": "create generate make erzeuge erstelle erstell generiere lege_an leg_an",
        "plain": "create generate make erzeugen erstellen generieren anlegen anzulegen",
        "second": "erzeugst erstellst anlegst",
        "gerund": "creating generating making",
        "report": "created generated made erzeugt erstellt generiert angelegt",
    },
    "login": {
        "order": "log_in log_on login sign_in log_into melde_dich_an meld_dich_an logge_dich_ein "
        "melden_sie_sich_an "
        "loggen_sie_sich_ein go gehe geh gehen_sie öffne open",
        "plain": "log_in log_on login sign_in einloggen anmelden gehen öffnen open go dich_anmelden "
        "dich_einloggen "
        "sich_anmelden",
        "second": "einloggst anmeldest gehst öffnest",
        "gerund": "logging_in signing_in going opening",
        "report": "logged signed eingeloggt angemeldet geöffnet opened went ging",
    },
    "attach": {
        "order": "attach hänge_an häng_an",
        "plain": "attach anhängen anzuhängen",
        "second": "anhängst",
        "gerund": "attaching",
        "report": "attached angehängt",
    },
    "remove": {
        "order": "delete remove shred lösche entferne vernichte",
        "plain": "delete remove shred löschen entfernen vernichten",
        "second": "löschst entfernst",
        "gerund": "deleting removing",
        "report": "deleted removed gelöscht entfernt",
    },
    "cancel": {
        "order": "cancel storniere",
        "plain": "cancel stornieren",
        "second": "stornierst",
        "gerund": "cancelling",
        "report": "cancelled storniert",
    },
    "pay": {
        "order": "pay bezahle zahle überweise",
        "plain": "pay bezahlen zahlen überweisen",
        "second": "bezahlst überweist",
        "gerund": "paying",
        "report": "",
    },
    "print": {
        "order": "print drucke druck",
        "plain": "print drucken ausdrucken",
        "second": "druckst",
        "gerund": "printing",
        "report": "",
    },
}
"""Verb classes that what is shipped is done by, and those that it must tell from them."""
COMMON: Final[dict[str, str]] = {
    # English; German orders; German infinitives; gerunds; participles and past
    "give": "give; gib gebt; geben; giving; gave given gegeben",
    "tell": "tell; sag sage sagt nenne nenn; sagen nennen; telling; told gesagt genannt",
    "show": "show list display; zeige zeig zeigt liste_auf; zeigen anzeigen auflisten; "
    "showing listing; showed shown gezeigt",
    "look_up": "look_up; schau schaue schauen guck sieh schau_nach schaue_nach sieh_nach schlage_nach schlag_nach; "
    "nachschauen nachsehen nachschlagen; looking_up; looked_up nachgeschaut nachgesehen",
    "check": "check verify inspect; prüfe prüf prüft überprüfe überprüf kontrolliere checke; "
    "prüfen überprüfen kontrollieren nachprüfen checken; checking verifying; "
    "checked verified geprüft überprüft kontrolliert",
    "enter": "enter fill_in fill_out type_in key_in; "
    "trage_ein trag_ein gib_ein gebe_ein fülle_aus füll_aus erfasse; "
    "eintragen einzutragen eingeben einzugeben ausfüllen auszufüllen erfassen; entering filling_in filling_out; "
    "entered filled eingetragen eingegeben ausgefüllt erfasst",
    "record": "record register; erfasse registriere verbuche; erfassen registrieren verbuchen; "
    "recording registering; recorded registered erfasst registriert",
    "add": "add; füge_hinzu füg_hinzu ergänze; hinzufügen hinzuzufügen ergänzen; adding; "
    "added hinzugefügt ergänzt",
    "update": "update change modify; aktualisiere ändere änder; aktualisieren ändern; "
    "updating changing; updated changed aktualisiert geändert",
    "set": "set; setze setz stelle_ein stell_ein; setzen einstellen; setting; gesetzt",
    "order": "order buy purchase; bestelle bestell kaufe kauf; bestellen kaufen; ordering buying; "
    "ordered bought bestellt gekauft",
    "book": "book reserve; buche buch reserviere; buchen reservieren; booking reserving; "
    "booked reserved gebucht reserviert",
    "start": "start run launch; starte führe_aus führ_aus; starten ausführen auszuführen; "
    "starting running; started ran gestartet ausgeführt",
    "open": "open; öffne öffnet; öffnen; opening; opened geöffnet",
    "close": "close; schließe schließ; schließen abschließen; closing; closed geschlossen abgeschlossen",
    "move": "move; verschiebe verschieb; verschieben; moving; moved verschoben",
    "rename": "rename; benenne_um; umbenennen; renaming; renamed umbenannt",
    "upload": "upload; lade_hoch lad_hoch; hochladen hochzuladen; uploading; uploaded hochgeladen",
    "read": "read_out; lies lest; lesen vorlesen auslesen; reading; gelesen ausgelesen",
    "compare": "compare; vergleiche vergleich; vergleichen; comparing; compared verglichen",
    "count": "count; zähle zähl; zählen; counting; counted gezählt",
    "calculate": "calculate compute; berechne; berechnen ausrechnen; calculating computing; "
    "calculated berechnet",
    "collect": "collect gather; sammle sammel; sammeln; collecting gathering; collected gesammelt",
    "summarise": "summarise summarize; fasse_zusammen fass_zusammen; zusammenfassen zusammenzufassen; "
    "summarising summarizing; summarised summarized zusammengefasst",
    "translate": "translate; übersetze übersetz; übersetzen; translating; translated übersetzt",
    "convert": "convert; wandle_um wandel_um konvertiere; umwandeln umzuwandeln konvertieren; "
    "converting; converted umgewandelt konvertiert",
    "assign": "assign; weise_zu weis_zu; zuweisen zuzuweisen; assigning; assigned zugewiesen",
    "approve": "approve release; genehmige; genehmigen freigeben freizugeben; approving releasing; "
    "approved genehmigt freigegeben",
    "reject": "reject decline; lehne_ab lehn_ab; ablehnen abzulehnen; rejecting declining; "
    "rejected declined abgelehnt",
    "reply": "answer; beantworte; beantworten; answering; answered beantwortet",
    "invite": "invite; lade_ein lad_ein; einladen einzuladen; inviting; invited eingeladen",
    "remind": "remind; erinnere; erinnern; reminding; reminded erinnert",
    "block": "block lock; sperre; sperren; blocking locking; blocked locked gesperrt",
    "unlock": "unlock unblock; entsperre; entsperren; unlocking unblocking; unlocked entsperrt",
    "reset": "reset; setze_zurück setz_zurück; zurücksetzen zurückzusetzen; resetting; zurückgesetzt",
    "publish": "publish post; veröffentliche; veröffentlichen; publishing posting; "
    "published posted veröffentlicht",
    "share": "share; teile; teilen; sharing; shared geteilt",
    "query": "query; frage_ab frag_ab; abfragen abzufragen; querying; queried abgefragt",
    "request": "request; fordere_an; anfordern anzufordern; requesting; angefordert",
}
"""Verbs that nothing CPA ships is done by, for intents of one's own; typing errors are not mended into them."""

NOUNS: Final = (
    "order book update start change check count record set run close move invite print add enter "
    "register release approve upload compare share post reset answer query request block lock"
)
"""Words that are verbs only where an order can stand; elsewhere ("the order 4711", "our book") they are nouns."""


def common(name: str) -> dict[str, str]:
    """A class of `COMMON` in the form of `VERBS`; the German second person follows from the infinitive."""
    english, orders, infinitives, gerunds, reports = COMMON[name].split("; ")
    second = [_second(word) for word in infinitives.split() if word.endswith("en")]
    return {
        "order": f"{english} {orders}",
        "plain": f"{english} {infinitives}",
        "second": " ".join(second),
        "gerund": gerunds,
        "report": reports,
    }


def _second(infinitive: str) -> str:
    stem = infinitive[:-2]
    return stem + ("est" if stem[-1] in "td" else "t" if stem[-1] in "sßz" else "st")
