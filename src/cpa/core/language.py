"""What a reader of German and English requests must know of the two languages, as data; the verbs are in `verbs`.

A word in no list is unknown, and a request with an unknown word outside an argument is not understood. So these
lists decide how much is understood, never whether something wrong is done.
"""

from __future__ import annotations

from typing import Final

ARTICLES: Final = (
    "a an the der die das den dem des ein eine einen einem einer eines my our your its "
    "mein meine meinen meinem meiner "
    "unser unsere unseren unserem unserer dein deine deinen deinem deiner ihr ihre ihren "
    "ihrem ihrer eure euren "
    "this that diese dieser dieses diesen diesem jene"
)
OBJECTS: Final = (
    "it them es sie ihn ihm ihnen one welche diese dies das this that selbige sowie selbe dieselbe"
)
BENEFICIARY: Final = "me mir mich us uns"
ADDRESSED: Final = "you u du sie ihr dir euch dich yourself"
CONJUNCTIONS: Final = (
    "and und then dann anschließend danach daraufhin also auch sowie as_well_as "
    "afterwards after_that im_anschluss "
    "plus zusätzlich dazu hinterher gleich_danach next und_dann and_then zuerst erst first zunächst"
)
PARTICLES: Final = (
    "mal doch kurz eben schnell gerade einfach just quickly simply now jetzt sofort "
    "gleich heute today asap directly direkt "
    "noch once einmal again nochmal nochmals erneut wieder umgehend promptly immediately gerne gern zeitnah "
    "schnellstmöglich baldmöglichst rasch soon bald right away straight bitteschön schon freundlicherweise "
    "netterweise ok okay so mal_eben herunter runter heraus raus ab an auf weiter rüber over down up out "
    "along hin here hier there dort dorthin too ebenfalls ebenso automatisch "
    "automatically her davon thereof kindly "
    "all daraus online neu rein ein "
    "bis_morgen bis_heute bis_heute_abend bis_morgen_früh bis_montag bis_dienstag bis_mittwoch "
    "bis_donnerstag bis_freitag bis_samstag bis_sonntag bis_spätestens_morgen bis_ende_der_woche "
    "by_tomorrow by_tonight by_today by_monday by_tuesday by_wednesday by_thursday by_friday "
    "by_saturday by_sunday by_the_end_of_the_day by_the_end_of_the_week dringend dringendst urgently"
)
PREPOSITIONS: Final = (
    "from of off in on at to for via by with as into through under onto inside within "
    "aus von vom im in am auf an bei beim mit per über als nach zu zum zur für unter ins durch innerhalb aufs"
)
COURTESY: Final = (
    "thanks thank_you thank_you_very_much many_thanks thanks_a_lot thanks_in_advance "
    "thank_you_in_advance cheers thx ty tia "
    "danke danke_schön dankeschön vielen_dank herzlichen_dank besten_dank danke_im_voraus "
    "vielen_dank_im_voraus "
    "danke_vorab vielen_dank_vorab danke_dir danke_ihnen in_advance im_voraus hello hi hey hallo moin servus "
    "guten_morgen guten_tag guten_abend grüezi good_morning good_afternoon good_evening dear liebe lieber "
    "as_soon_as_possible so_bald_wie_möglich sobald_wie_möglich so_schnell_wie_möglich so_schnell_es_geht "
    "as_quickly_as_possible right_now right_away when_you_get_a_chance "
    "when_you_have_a_moment when_you_have_time "
    "when_you_get_a_minute when_you_have_a_minute when_you_have_a_second if_you_have_time "
    "if_you_have_a_moment "
    "if_you_get_a_chance whenever_you_have_time whenever_you_get_a_chance at_your_earliest_convenience "
    "if_possible if_you_can if_you_could if_you_would if_you_dont_mind if_you_don't_mind "
    "if_you_do_not_mind if_it_is_possible "
    "if_that_is_ok if_that's_ok if_that's_okay if_it's_not_too_much_trouble if_it's_no_trouble "
    "wenn_möglich falls_möglich wenn_es_geht wenn_es_möglich_ist falls_es_möglich_ist "
    "wenn_du_zeit_hast wenn_sie_zeit_haben "
    "wenn_du_kannst wenn_sie_können sobald_du_zeit_hast sobald_sie_zeit_haben "
    "sobald_du_kannst wenn_du_dazu_kommst "
    "wenn_sie_dazu_kommen falls_du_zeit_hast falls_sie_zeit_haben wenn_es_keine_umstände_macht "
    "wenn_es_dir_nichts_ausmacht wenn_es_ihnen_nichts_ausmacht wenn_es_dir_recht_ist wenn_es_ihnen_recht_ist "
    "wenn_es_passt wenn_du_so_lieb_wärst wenn_du_so_nett_wärst bei_gelegenheit "
    "please bitte pls plz plese pleas pleaes biite bite_sehr bitte_sehr freundlichst nett lieb "
    "bitte_danke that_would_be_great that'd_be_great das_wäre_super das_wäre_toll "
    "das_wäre_nett das_wäre_lieb wäre_super "
    "wäre_nett wäre_toll would_be_great would_be_nice sehr_geehrte_damen_und_herren liebes_team dear_team "
    "for_me für_mich for_us für_uns für_unsere_unterlagen für_meine_unterlagen "
    "for_our_records for_my_records "
    "für_die_buchhaltung for_accounting for_our_accounting für_unsere_buchhaltung "
    "für_die_akten for_the_records "
    "für_die_unterlagen für_die_steuer für_die_steuererklärung for_the_tax_return "
    "for_my_tax_return for_my_taxes "
    "für_meine_steuererklärung for_our_files for_my_files for_the_files für_die_ablage"
)
NEGATIONS: Final = (
    "not no never dont don't doesnt doesn't didnt didn't cannot cant can't won't wont "
    "wouldn't wouldnt shouldn't shouldnt "
    "couldn't couldnt mustn't mustnt needn't neednt isn't isnt aren't arent wasn't wasnt "
    "weren't haven't havent hasn't hasnt "
    "ain't nor neither none nobody nowhere nothing without instead rather avoid refrain "
    "stop abstain hold cease skip "
    "forbid forbidden prohibit prevent nto donot dnot dont' "
    "nicht nich nciht nihct nit net ned nix nichts nie niemals nimmer kein keine keinen "
    "keinem keiner keines kien keien niemand "
    "niemanden niemandem nirgends keinesfalls keineswegs ohne statt anstatt stattdessen "
    "weder unterlasse unterlass unterlassen "
    "unterlassen_sie vermeide vermeiden verzichte verzichten stopp halt lass lasse lassen "
    "verboten untersagt hör bloß hüte "
    "finger_weg untersteh unterstehe hands_off auf_keinen_fall wehe"
)
CONDITIONS: Final = (
    "if when whenever once unless provided providing suppose supposing should_they "
    "assuming until till before after upon "
    "as_soon_as in_case as_long_as only_if depending otherwise "
    "eventuell evtl vielleicht notfalls ggf gegebenenfalls womöglich allenfalls höchstens "
    "bedarfsweise maybe perhaps possibly hypothetically "
    "theoretically potentially "
    "falls wenn sobald sofern soweit vorausgesetzt angenommen bis bevor nachdem solange "
    "sollte sollten unter_der_bedingung "
    "es_sei_denn im_falle andernfalls sonst ansonsten je_nachdem erst_wenn"
)
LATER: Final = (
    "tomorrow later tonight monday tuesday wednesday thursday friday saturday sunday "
    "weekly daily monthly yearly every "
    "always regularly next_week next_month next_year in_future from_now_on someday eventually "
    "um uhr o'clock pm am_montag freigabe "
    "morgen übermorgen später nachher demnächst montag dienstag mittwoch donnerstag freitag samstag sonntag "
    "täglich wöchentlich monatlich jährlich jeden jede jedes immer regelmäßig künftig zukünftig irgendwann "
    "nächste_woche nächsten_monat montags freitags morgens abends ab_sofort nächste nächsten"
)
ASIDES: Final = (
    "because since weil da denn damit zumal so_that so_we so_i cause cuz as_i as_we nämlich deshalb therefore"
)
ADVERSATIVES: Final = (
    "but however although though except only yet wait actually unless instead sorry "
    "aber jedoch allerdings sondern außer ausgenommen nur lediglich obwohl warte moment "
    "stopp halt nein no nope nay nö ne nee "
    "doch_nicht vielmehr besser lieber"
)
REPORTING: Final = (
    "said says say asked asks told tells wrote writes read reads claims claimed demanded "
    "demands suggested suggests "
    "states stated requested requests instructed quote quoted "
    "sagte sagt meinte meint schrieb schreibt fragte fragt bat bittet forderte fordert behauptet behauptete "
    "steht stand heißt hieß lautet lautete verlangt verlangte wollte schlug zitat zitiert zitiere"
)
FORWARDED: Final = (
    "fyi below following folgende folgendes untenstehende unten anbei zur_info "
    "zur_kenntnis zk weitergeleitet forwarded "
    "message nachricht text instruction instructions anweisung anweisungen wording wortlaut"
)
QUESTIONS: Final = (
    "did do does have has had was were is are am will shall should may might can't "
    "couldn't why how when where who what which "
    "whose whether must hast habt haben hat hatte hattest hatten wurde wurden ist sind "
    "war waren bist seid wird werden soll "
    "sollen sollst sollte sollten darf dürfen muss müssen warum wieso weshalb wie wann wo "
    "wohin wer wen wem was welche "
    "welcher welches ob"
)
RETRACTIONS: Final = (
    "i_mean i_meant ich_meine ich_meinte correction korrektur oops ups ach_nein oh_nein "
    "oh_wait ach_ne rather_not besser_nicht "
    "never_mind nevermind forget_it forget_that forget_about_it scratch_that cancel_that "
    "ignore_that disregard "
    "disregard_that no_longer_needed already_done changed_my_mind on_second_thought "
    "vergiss_es vergiss_das vergessen_sie_es vergessen_sie_das hat_sich_erledigt "
    "schon_erledigt bereits_erledigt "
    "lass_es lass_mal lass_gut_sein lassen_sie_es doch_nicht nicht_mehr_nötig "
    "nicht_mehr_nötig kommando_zurück "
    "überlege_es_mir streich_das ziehe_zurück only_kidding just_kidding war_nur_spaß nur_spaß april_april"
)
TRIFLES: Final = (
    "let_me_know let_us_know call_me ring_me get_back_to_me drop_me_a_line confirm tell_me_when "
    "gib_mir_bescheid gib_bescheid geben_sie_mir_bescheid sag_mir_bescheid sag_bescheid "
    "sagen_sie_mir_bescheid "
    "melde_dich melden_sie_sich meld_dich ruf_mich_an rufen_sie_mich_an bestätige "
    "bestätigen_sie take_care see_you "
    "have_a_nice have_a_good have_a_great schönen_tag schönes_wochenende schönen_abend "
    "schönen_feierabend bis_bald bis_dann "
    "bis_später see_you_tomorrow excuse entschuldige entschuldigung "
    "entschuldigen verzeih sorry_for tut_mir_leid "
    "im_sorry i'm_sorry hope hoffe stehe_ich feel_free reach_out"
)
OWN_TROUBLE: Final = (
    "can't cannot can could couldn't couldnt cant find found access reach log know "
    "remember have haven't had received got "
    "work works working seem "
    "kann konnte könnte finde fand habe hab haben hatte weiß komme kenne sehe bekomme "
    "bekommen erreiche gefunden erhalten "
    "weiss klappt funktioniert geht ging"
)
FIRST_PERSON: Final = "i we ich wir it es er"
INTENSIFIERS: Final = (
    "sehr wirklich really very so total echt ganz super äußerst most also auch kindly dann then jetzt now"
)
PROVERBS: Final = (
    "do help tun machen helfen erledigen hilf help_me hilf_mir take_care_of_that look_into_that schaffst"
)
CONFUSABLE: Final = (
    "spend spenden spende spendest expert import imports hold holds halte halten resend "
    "unsend blend lend lending bend "
    "spending detach verwende verwenden versenke versenken schenke schenken schenkst "
    "sprich experte exporteur molle "
    "hohe hohen senkt senken sinken sende-sperre latent latents porter postal total "
    "invoiced involve invoices rechnungen bills portals reply mailand main "
    "maul letzter kreche rechne rechnen bezahlung bemerkung"
)
"""Real words that look like a typing error of another: never corrected."""
LEGAL_FORMS: Final = (
    "gmbh ag kg ohg ug se eg ek kgaa mbh inc ltd llc llp plc corp corporation co sa sarl "
    "bv nv ab oy as spa srl "
    "gbr ev stiftung verein"
)

GERMAN: Final = (
    "der die das den dem des ein eine einen einem eines einer kein keine und oder aber nicht ich du sie "
    "wir ihr mir mich dir dich uns euch ihnen es bitte von aus an für mit auf zu bei im ins zum zur vom "
    "nach über um ab seit ist sind wird war hat haben kann könnten könntest könnte kannst würden würdest "
    "möchte will soll brauche bräuchte mal noch jetzt heute morgen alle allen mein meine unser unsere "
    "diese dieser dieses wie was wer wo wann welche hole hol holen schick schicke schicken sende senden "
    "schreibe schreib schreiben suche such suchen finde finden zeige zeig zeigen gib geben sag sage sagen "
    "lade laden prüfe prüfen lege trage trag erstelle erstellen ändere exportiere drucke drucken bestelle "
    "bestellen buche buchen schau nenne speichere leite öffne herunter rechnung rechnungen neueste letzte "
    "kunde kunden lieferant bericht datei liste ticketliste postfach anhang nachricht betreff angebot "
    "auftrag vertrag unterlagen projekt portal als hilfe hallo danke gruß grüße"
)
ENGLISH: Final = (
    "the a an and or but not i you we me my us our your please from of to for with on at in by is are was "
    "will has have can could would should may this that these it its them all any what who where when "
    "which how get give send mail fetch write search find show list tell look check create make download "
    "forward save invoice invoices latest newest last customer supplier report file need like want "
    "project export as hello hi thanks thank regards"
)

_WHO = ("du", "sie", "ihr")
_WISHED = (
    "ich möchte|ich will|ich hätte gern|ich hätte gerne|ich wünsche mir|ich würde mir wünschen|ich bitte|"
    "wir möchten|wir hätten gern|wir hätten gerne|mir ist wichtig|wäre es möglich|ist es möglich"
)
_WELCOME = tuple(
    f"{who}{how}"
    for who, hows in (
        ("ich würde mich ", "freuen|sehr freuen"),
        ("wir würden uns ", "freuen|sehr freuen"),
        *(
            (be, "nett|schön|toll|super|lieb|gut|klasse|prima|hilfreich|freundlich|sehr nett|sehr freundlich")
            for be in ("es wäre ", "das wäre ", "wäre ")
        ),
        *(
            (f"ich wäre {whom}", "dankbar|sehr dankbar|verbunden|sehr verbunden")
            for whom in ("", "dir ", "ihnen ", "euch ")
        ),
        *((f"wir wären {whom}", "dankbar|sehr dankbar") for whom in ("", "dir ", "ihnen ", "euch ")),
    )
    for how in hows.split("|")
)
_WONDERED = (
    "ich wollte fragen|ich wollte mal fragen|ich wollte nachfragen|ich möchte fragen|ich frage mich|"
    "wir wollten fragen|darf ich fragen|dürfte ich fragen"
)
_WOULD_YOU = "würden sie|würdest du|würdet ihr|könnten sie|könntest du|könntet ihr"
_KIND = (
    "so freundlich sein|so nett sein|so lieb sein|so gut sein|"
    "so freundlich sein und|so nett sein und|so lieb sein und|so gut sein und"
)

FRAMES: Final[tuple[tuple[str, str], ...]] = (
    # (what follows, words) — `(bitte)`-like fillers between the words are skipped; longest first wins.
    # late: only with "könnten" or the like at the end.
    (
        "verb",
        "could you|would you|can you|could u|can u|will you please|may i ask you to|"
        "might i ask you to|may i ask you",
    ),
    (
        "verb",
        "könnten sie|könntest du|könntet ihr|kannst du|können sie|könnt ihr|würdest du|würden sie|würdet ihr|"
        "magst du|könnte jemand|kann jemand|dürfte ich dich bitten|dürfte ich sie bitten|"
        "darf ich dich bitten|"
        "darf ich sie bitten|ich bitte dich|ich bitte sie|wir bitten sie|ich möchte dich bitten|"
        "ich möchte sie bitten|ich wollte dich bitten|ich wollte sie bitten|wärst du so nett|"
        "wärst du so lieb|"
        "wären sie so nett|wären sie so freundlich|wärst du so freundlich|sei so nett|sei so lieb|"
        "seien sie so nett|seien sie so freundlich|bist du so lieb|bist du so nett",
    ),
    (
        "verb",
        "would you be so kind as to|would you be so kind to|would you be so kind and|"
        "could you be so kind as to|could you be so kind and|could you please be so kind as to|"
        "could you please be so kind and|would you please be so kind as to|would you please be so kind and|"
        "be so kind as to|don't forget to|dont forget to|do not forget to|be sure to|"
        "make sure to|remember to|would you be able to|i would like you to|i'd like you to|"
        "i want you to|i need you to|"
        "we need you to|we would like you to|we'd like you to|i would ask you to|i'd ask you to|i ask you to|"
        "i am asking you to|i'd appreciate it if you could|i would appreciate it if you could|"
        "i'd appreciate it if you would|i would appreciate it if you would|i'd be grateful if you could|"
        "i would be grateful if you could|i was wondering if you could|i wonder if you could|"
        "it would be great if you could|it would be nice if you could|"
        "it'd be great if you could|it'd be nice if you could|"
        "it would be lovely if you could|it would help if you could|it would be helpful if you could|"
        "would be great if you could|would it be possible to|is it possible to|"
        "would it be possible for you to|"
        "i'd love it if you could|we would appreciate it if you could|do me a favor and|do me a favour and|"
        "can i ask you to|could i ask you to|can i get you to|could i get you to",
    ),
    ("verb", "|".join(f"{said} dass {who}" for said in _WISHED.split("|") for who in _WHO)),
    ("verb", "|".join(f"{said} wenn {who}" for said in _WELCOME for who in _WHO)),
    ("verb", "|".join(f"{said} {kind}" for said in _WOULD_YOU.split("|") for kind in _KIND.split("|"))),
    ("late", "|".join(f"{said} ob {who}" for said in _WONDERED.split("|") for who in _WHO)),
    ("late", "|".join(f"wenn {who}" for who in _WHO)),
    (
        "verb",
        "i was wondering whether you could|i wonder whether you could|do you think you could|"
        "any chance you could|is there any chance you could|could someone|could somebody|can someone|"
        "can somebody|would someone|can we ask you to|could we ask you to|may we ask you to|"
        "i would be happy if you could|i'd be happy if you could|i would be grateful if you would|"
        "i'd be grateful if you would|i'd be glad if you could|it would be kind if you could|"
        "it would be very kind if you could|would you be able to|are you able to|i'd need you to|"
        "we'd need you to|please be so kind as to|would you be kind enough to|could you be kind enough to",
    ),
    ("gerund", "i'd appreciate you|i would appreciate you|how about|any chance of"),
    (
        "verb",
        "ich würde dich bitten|ich würde sie bitten|wir möchten sie bitten|wir würden sie bitten|"
        "ich darf dich bitten|ich darf sie bitten|dürften wir sie bitten|dürfen wir sie bitten|"
        "sie müssten|du müsstest|ihr müsstet|müssten sie|müsstest du|hätten sie die güte|"
        "hättest du die güte|hätten sie die freundlichkeit|wären sie so gut|wärst du so gut|"
        "wären sie so lieb|wärt ihr so nett|wärt ihr so lieb|könnte mir jemand|kann mir jemand|"
        "könnte uns jemand|kann uns jemand|wir bräuchten jemanden der",
    ),
    (
        "verb",
        "wäre es möglich dass du|wäre es möglich dass sie|wäre es möglich|ist es möglich|"
        "tu mir den gefallen und|"
        "tust du mir den gefallen und|sei so gut und|seien sie so gut und|sei so nett und|"
        "sei so lieb und|kannste|könnteste|könntste|ich bitte um|bitte um|wir bitten um|"
        "vergiss nicht|vergessen sie nicht|vergiss bitte nicht|denk daran|denk dran|"
        "denken sie daran|denke daran|ich bräuchte jemanden der",
    ),
    (
        "verb",
        "i would like to|i'd like to|i want to|we would like to|we'd like to|"
        "ich möchte|ich möchte gern|ich möchte gerne|ich würde gern|ich würde gerne|"
        "wir möchten|wir würden gerne",
    ),
    ("gerund", "would you mind|do you mind|mind"),
    (
        "verb",
        "würde es dir etwas ausmachen|würde es ihnen etwas ausmachen|macht es dir etwas aus|"
        "würde es dir was ausmachen",
    ),
    (
        "noun",
        "i would like to have|i'd like to have|we would like to have|we'd like to have|i want to have|"
        "i need|we need|i would like|i'd like|i want|we would like|we'd like|i require|we require|can i have|"
        "could i have|could we have|may i have|can i get|could i get|can we get|could we get|"
        "could i please get|"
        "ich brauche|ich bräuchte|wir brauchen|wir bräuchten|ich benötige|wir benötigen|ich hätte gern|"
        "ich hätte gerne|wir hätten gern|wir hätten gerne|ich hätte|könnte ich|kann ich|"
        "könnten wir|dürfte ich|"
        "ich will|ich brauch|ich bräuchte dringend|kriege ich|bekomme ich|könnte ich bekommen|"
        "kann ich bekommen|"
        "könnte ich haben|kann ich haben",
    ),
)
"""Turns of politeness that make a request of what follows: a verb, a gerund, or the thing wished for itself."""
