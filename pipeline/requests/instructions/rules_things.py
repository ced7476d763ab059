"""Rules for what a thing is and where: size, place, adding, removing, turning into something, and the rest."""

import re
from dataclasses import replace

from pipeline.requests.instructions import lexicon as words
from pipeline.requests.instructions.named import Named, Place
from pipeline.requests.instructions.nouns import Noun, read_noun, split_list
from pipeline.requests.instructions.reading import (
    NP,
    NP1,
    NP2,
    POSTURE,
    RELATION,
    Reader,
    Rule,
    adder,
    each,
    look_of,
    named_thing,
    one_of,
    read_place,
    replaced,
    split_place,
    unarticled,
    whole_or,
)
from schemas.record import Scalar

RULES: list[Rule] = []
_rule = adder(RULES)


# --- size and place


@_rule(rf"(?:swap|switch|exchange) (?:the )?(?:positions?|places?|locations?) of {NP}|(?:swap|switch|exchange) {NP1}")
def _change_places(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns = reader.nouns(one_of(match))
    return (
        each(nouns, "move") if len(nouns) == 2 or (nouns and nouns[0].phrase and nouns[0].phrase.count == 2) else None
    )


@_rule(
    rf"{words.GROW} {NP}|(?:make|scale|turn|get) {NP1} (?:{words.DEGREE}{words.BIGGER}|up)(?: in"
    rf" size)?|increase {NP2}(?:'s)? size"
)
def _grow(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return each(reader.nouns(re.sub(r"^the size of ", "", one_of(match))), "resize", size="bigger")


@_rule(
    rf"{words.SHRINK} {NP}|(?:make|scale|turn|get) {NP1} (?:{words.DEGREE}{words.SMALLER}|down)(?: in"
    rf" size)?|(?:reduce|decrease) {NP2}(?:'s)? size"
)
def _shrink(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return each(reader.nouns(re.sub(r"^the size of ", "", one_of(match))), "resize", size="smaller")


_ACROSS = r"(?:to (?:the|its|his|her|my) )?(?P<across%d>left|right)(?:wards?)?"
_ALONG = r"(?P<along%d>upwards?|downwards?|up|down|higher|lower)"
_A_BIT = (
    r"(?: (?:a bit|a little|a little bit|slightly|further|farther|over|more|all the way|by .+|\d+ ?(?:px|pixels|%)))*"
)


@_rule(
    rf"{words.MOVE} {NP}{_A_BIT} (?:{_ALONG % 1}(?: and {_ACROSS % 1})?|{_ACROSS % 2}|to another place"
    rf"|somewhere else){_A_BIT}"
)
def _move(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if re.search(rf" (?:to|in|at|into) (?:the|its) {words.POSITION}$", match["np"]):
        return None
    along = match["along1"]
    way = [{"u": "up", "h": "up", "d": "down", "l": "down"}[along[0]]] if along else []
    way += [across for across in (match["across1"], match["across2"]) if across]
    return each(reader.nouns(match["np"]), "move", **({"way": " ".join(way)} if way else {}))


@_rule(rf"(?P<verb>{words.MOVE}) {NP} (?P<place>(?:{RELATION}|in the middle) .+)")
def _move_to(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if re.fullmatch("put|place", match["verb"]) and not re.match(
        r"(?:the|his|her|its|this|that|it|them|my) ?", match["np"]
    ):
        return None
    thing, place = _split_move(reader, f"{match['np']} {match['place']}")
    return [named_thing(noun, "move", {}, place) for noun in reader.nouns(thing)] or None if place else None


def _split_move(reader: Reader, text: str) -> tuple[str, Place | None]:
    """As `split_place`, but a side of the image next to the thing ("the cup on the left") is the thing's own."""
    for match in re.finditer(rf" (?=({RELATION}) )", text):
        place = read_place(reader, text[match.end() :])
        goes_on = re.search(r" (?:to|onto|into) (?:the|his|her|its|a)\b", text[match.end(1) :])
        if place is not None and (place.anchor is None or goes_on is None):
            return text[: match.start()], place
    return text, None


# --- adding and removing


@_rule(
    r"give (?P<np>.+?) (?P<new>(?:a|an|some|new|two|three|another|matching|more) .+|[a-z]+)",
    r"dress (?P<np>.+?) in (?P<new>(?:a|an|some) .+)",
)
def _give(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if re.fullmatch(r"(?:the|his|its|a|my|their|all|every|each)", match["np"]):
        return None
    if match["np"] == "her" and " " not in match["new"]:
        return None
    owners, new = reader.nouns(match["np"]), reader.nouns(match["new"])
    if not owners or not new or owners[0].phrase is None:
        return None
    place = Place("at", owners[0].phrase)
    return [named_thing(noun, "insert", look_of(noun), place) for noun in new]


@_rule(rf"{words.INSERT} (?P<new>.+)")
def _insert(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    found: list[Named] = []
    for part in split_list(match["new"]):
        thing, place = split_place(reader, part)
        if found and place is None and found[-1].where is not None and re.match(r"(?:the|his|her|their|its) ", part):
            found += _also_at(found[-1], found[-1].where, read_noun(part, reader.mentioned))
            continue
        noun = read_noun(re.sub(POSTURE, "", thing), reader.mentioned)
        if noun is None or noun.phrase is None:
            return None
        found.append(named_thing(replace(noun, of=None), "insert", look_of(noun), place))
    if found and found[-1].where is not None and all(named.where is None for named in found[:-1]):
        found = [replace(named, where=found[-1].where) for named in found]
    return found or None


def _also_at(named: Named, where: Place, noun: Noun | None) -> list[Named]:
    """ "a hat on the man and the woman": the same for the next anchor."""
    return [replace(named, where=Place(where.relation, noun.phrase))] if noun is not None and noun.phrase else []


@_rule(
    rf"take (?P<np>.+?) (?:away|out|off)|(?:{words.REMOVE}|take) {NP1} (?:from|off of|off|out of) "
    rf"(?!the (?:far )?(?:{words.POSITION})\b)(?P<owner>[^,]+)|{words.REMOVE} (?P<np2>.+)"
)
def _remove(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    thing = one_of(match)
    owner = reader.nouns(match["owner"]) if match["owner"] else []
    if match["owner"] and not owner:
        return None
    quoted = re.search(r' ?"(\d+)"', thing)
    parameters: dict[str, Scalar] = {}
    if quoted is not None:
        parameters["text"] = reader.quotes[int(quoted[1])]
        thing = (thing[: quoted.start()] + thing[quoted.end() :]).strip() or "the text"
    nouns = reader.nouns(thing)
    of = owner[0].phrase if owner else None
    return [named_thing(replace(noun, of=noun.of or of), "remove", parameters) for noun in nouns] or None


# --- turning into something, and whatever else is asked


@_rule(rf"{words.TURN} {NP} (?:into|to) (?P<new>.+)")
def _turn_into(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns, new = reader.nouns(match["np"]), match["new"]
    if re.fullmatch(r"(?:the )?(?:day|night|daytime|summer|winter|spring|autumn|fall|morning|evening)", match["np"]):
        return whole_or(reader, None, unarticled(new))
    if re.search(r"(?:expression|pose|hairstyle|mood|shape|age|posture|gesture|gaze)$", match["np"]):
        return each(nouns, "other", change=unarticled(new))
    return replaced(reader, nouns, new)


@_rule(
    rf"(?:turn|switch) (?P<way>on|off) (?P<np>.+)|(?:turn|switch) {NP1} (?P<way1>on|off|around|upside down|sideways)"
)
def _switch(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return each(reader.nouns(one_of(match)), "other", change=match["way"] or match["way1"])


@_rule(
    rf"(?:make|turn|convert|change|transform|set) (?P<np>{words.WHOLE}|it|this) (?:into |to |look |in )?(?P<what>.+)"
)
def _make_whole(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns = reader.nouns(match["np"])
    if nouns and nouns[0].phrase is None:
        return whole_or(reader, None, unarticled(match["what"]))
    return replaced(reader, nouns, match["what"]) if re.match(r"(?:a|an) ", match["what"]) else None


@_rule(rf"(?:make|turn) {NP} (?P<new>(?:a|an) (?!(?:bit|little|lot|touch|different)\b).+)")
def _make_a(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return replaced(reader, reader.nouns(match["np"]), match["new"])


_CHANGE = (
    r"(?:(?:look|appear|seem|feel) (?P<look>.+)|(?P<change>(?:more|less|very|slightly|a bit|wear"
    r"|wearing|hold|holding|stand|sit|jump|run|face|point"
    r"|smile|laugh|cry|wave|dance|sleep|fly)\b.*))"
)


@_rule(
    rf"(?:make|have|let|get) (?P<np>.+?) (?:to )?{_CHANGE}|(?:make|have|let|get|turn) {NP1} (?:to )?(?P<word>[a-z-]+)"
)
def read_make(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    change = match["look"] or match["change"] or match["word"]
    return whole_or(reader, one_of(match), change)


_TAIL = (
    r"(?P<tail> (?:\d+|by|upside|clockwise|counter|anti|horizontally|vertically|slightly|more|wide"
    r"|halfway|completely|in half|a bit|a little|sideways|around|backwards?|forwards?|so that|until"
    r"|apart|open|shut|out|up|down)\b.*)?"
)


@_rule(rf"(?P<verb>{words.OTHER}) {words.WHOLE}(?P<tail> .+)")
def _other_whole(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return whole_or(reader, None, match["verb"] + match["tail"])


@_rule(
    rf"(?P<verb>{words.OTHER}) (?P<np>.+?){_TAIL}|(?P<verb1>[a-z]+(?: up| down| off| out| on)?) "
    rf"(?P<np1>(?:the|his|her|its|their|my|all|every|each|both) .+?|it"
    rf"|them){_TAIL.replace('<tail>', '<tail1>')}"
)
def read_other(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    verb, tail = match["verb"] or match["verb1"], match["tail"] or match["tail1"] or ""
    nouns = reader.nouns(one_of(match))
    whole = any(noun.phrase is None for noun in nouns)
    vague = verb in ("improve", "enhance", "edit", "modify", "adjust", "alter", "fix", "change", "update")
    no_order = r"is|are|was|were|what|who|where|why|how|does|do|did|has|have|with|in|on|at|of"
    if not match["verb"] and re.fullmatch(rf"{no_order}|{words.VERB}", verb):
        return None
    if vague and whole:
        return None
    if verb in ("change", "edit", "modify", "alter") and not tail:
        return each(nouns, "other")
    return each(nouns, "other", change=f"{verb}{tail}")
