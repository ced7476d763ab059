"""Reads an English edit instruction by rules: which things it names, what becomes of each, and what is to stay.

A clause is matched against `RULES` in their order; the first that understands it decides. Nothing is carried out: an
instruction is words about an image, whatever it says. It needs no model. What it does not cover: other languages
(`not_english`), amounts, and comparisons between things.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.instructions import lexicon as words
from pipeline.instructions.clauses import Clause, split_clauses, take_quotes
from pipeline.instructions.named import IMAGE, CannotParse, Named, Parsed, Phrase, Place
from pipeline.instructions.nouns import Mentioned, Noun, read_excluded, read_noun, read_nouns, split_list
from schemas.record import Scalar
from schemas.request import Operation

#: The light that "brighter" and "darker" ask for, as the parameter `gain`.
BRIGHTER, DARKER = 1.6, 0.5
#: A longer order is not read.
CLAUSE_MAX_CHARS = 300
#: As many targets as a request may have.
TARGETS_MAX = 64
NOT_ENGLISH = "is not English; give it in English, or its targets with boxes"

#: A noun phrase does not end before its noun.
_WHOLE_NP = "".join(rf"(?<!\b{word})" for word in "the a an its his their my every all each both of".split())
NP, NP1, NP2 = (rf"(?P<{name}>.+?{_WHOLE_NP})" for name in ("np", "np1", "np2"))
_POSTURE = r" (?:sitting|standing|lying|flying|hanging|swimming|floating|walking|running|sleeping|resting|leaning)$"
_ABSOLUTE = re.compile(
    rf" ?(?:in|on|at|to|near|into|along) (?:the |its )?(?:far )?({words.POSITION}|background corner)"
    rf"(?: (?:side|corner|part|edge|half|hand side|area))?(?: of (?:{words.WHOLE}))?$"
)
_IN_MIDDLE = {
    "in the middle of": "in",
    "in the center of": "in",
    "in the centre of": "in",
    "on the edge of": "on",
    "at the top of": "at",
    "at the bottom of": "at",
    "on the side of": "on",
    "to the side of": "near",
    "at the end of": "at",
    "on the back of": "on",
    "in the corner of": "in",
    "on the front of": "on",
}
_RELATED = {**words.RELATIONS, **_IN_MIDDLE}
_RELATION = "(?:" + "|".join(sorted(_RELATED, key=len, reverse=True)) + ")"
_WORN = rf"(?:a|an|the|his|her) (?:\w+ ){{0,2}}{words.WEAR}\b"

Handler = Callable[["Reader", re.Match[str]], "list[Named] | None"]
RULES: list[tuple[re.Pattern[str], Handler]] = []


@dataclass
class Reader:
    """What is known while the clauses are read, one after another."""

    quotes: tuple[str, ...]
    written: str = ""
    mentioned: Mentioned = field(default_factory=Mentioned)
    targets: list[Named] = field(default_factory=list)
    keep: list[Phrase] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    excluded: tuple[str, ...] = ()

    def nouns(self, text: str) -> list[Noun]:
        """The nouns of a list of noun phrases; empty where it is none."""
        return read_nouns(text, self.mentioned)


def parse_instruction(instruction: str) -> Parsed:
    """What `instruction` names. Raises: CannotParse, with the reason, where it names nothing that can be edited."""
    text, quotes = take_quotes(instruction)
    bare = re.sub(r'"\d+"', " ", text)
    if any(character.isalpha() for character in bare) and not words.looks_english(bare):
        raise CannotParse("not_english", NOT_ENGLISH)
    reader = Reader(quotes)
    for clause in split_clauses(text):
        _read_clause(reader, clause)
    if not reader.targets and words.looks_foreign(bare):
        raise CannotParse("not_english", NOT_ENGLISH)
    if not reader.targets:
        raise CannotParse("no_target", "names nothing to be changed, added or removed; say what, and how")
    if len(reader.targets) > TARGETS_MAX:
        raise CannotParse("too_many_targets", f"names {len(reader.targets)} things, at most {TARGETS_MAX} are read")
    return Parsed(tuple(reader.targets), tuple(reader.keep), tuple(reader.unread))


def _read_clause(reader: Reader, clause: Clause) -> None:
    alone = re.fullmatch(r"(?:except(?: for)?|apart from|other than|excluding|aside from) (.+)", clause.text)
    if alone is not None:
        _except_alone(reader, alone[1])
        return
    if _keeps(reader, clause.text):
        return
    reader.written = clause.written
    text = _as_order(clause.text)
    found = _try(reader, text) if len(text) <= CLAUSE_MAX_CHARS else None
    if found is None:
        if not _states(reader, text):
            reader.unread.append(clause.written)
        return
    reader.excluded = ()


def _states(reader: Reader, text: str) -> bool:
    """Whether a clause only says how a thing is ("the chair is too big"): what follows may call it "it"."""
    match = re.match(
        r"((?:the|my|his|her|their|this|that|these|those) .{1,80}?) (?:is|are|looks?|seems?|was|were)\b", text
    )
    match = match or re.fullmatch(r"i (?:don't |do not |really )*(?:like|hate|dislike|love|see) (.{1,80})", text)
    nouns = reader.nouns(match[1]) if match is not None and len(text) <= CLAUSE_MAX_CHARS else []
    for noun in nouns:
        reader.mentioned = reader.mentioned.with_noun(noun)
    return bool(nouns)


def _except_alone(reader: Reader, text: str) -> None:
    """ "Except for ..." before its clause, or as a sentence behind it."""
    if not reader.targets:
        reader.excluded = (text,)
        return
    last = reader.targets[-1]
    noun = Noun(last.label, last.phrase)
    excluded = tuple(read_excluded(text, noun, reader.mentioned))
    reader.targets[-1] = replace(last, excluded=last.excluded + excluded)


def _keeps(reader: Reader, text: str) -> bool:
    """Takes up what shall stay as it is; False where the clause says nothing of the kind."""
    match = re.fullmatch(
        rf"(?:(?:{words.NOT}) \w+|{words.KEEP}|not|but not) {NP}"
        r"(?: (?:unchanged|untouched|intact|the same|alone|as (?:it|they|he|she) (?:is|are|was)|as is"
        r"|unaffected|unmodified"
        r"|exactly .*|in place|unedited))?",
        text,
    )
    if match is None or re.match(r"(?:don't|do not|never) (?:forget|hesitate)", text):
        return False
    negated = re.match(r"(?:but )?not ", text)
    nouns = reader.nouns(match["np"])
    if negated and reader.targets and reader.targets[-1].phrase and reader.targets[-1].phrase.count == "all":
        _except_alone(reader, match["np"])
    else:
        for noun in nouns:
            reader.keep += [noun.phrase] if noun.phrase is not None else []
            reader.mentioned = reader.mentioned.with_noun(noun)
    return True


def _as_order(text: str) -> str:
    """A wish or a statement as an order: "the cup should be red" -> "make the cup red"."""
    text = re.sub(r"^(\w+ing)\b", lambda match: _order_verb(match[1]), text)
    there = re.fullmatch(
        r"(?:(?:could|can|may|let|have|i want|i'd like|i would like|i need) )?there (?:to be|be|should be"
        r"|could be|must be) (.+)",
        text,
    )
    if there is not None:
        return f"add {there[1]}"
    text = re.sub(r" so (?:that )?(?:it's|it is|it looks|they're|they are|it becomes|they look) ", " ", text)
    text = re.sub(rf"^(.+) would look (?:better|good|nice|great|nicer) in ({words.COLOR})$", r"make \1 \2", text)
    text = re.sub(r"^(?:what if|imagine|suppose) (.+?) (?:were|was|is|are|being) (.+)$", r"make \1 \2", text)
    text = re.sub(rf"^have (.+) in ({words.COLOR})$", r"make \1 \2", text)
    text = re.sub(r"^have (?=(?:a|an|some|two|three|more)\b)", "add ", text)
    text = re.sub(r" than (?:before|now|it is|they are|it was|usual|the original)$", "", text)
    match = re.fullmatch(
        r"(?:there|i) (?:should|must|could|want|need|would like|'d like)(?: be| to have| to see)? (.+)", text
    )
    wish = re.fullmatch(
        r"i(?: want|'d like| need| would like| wish| would love) (.+?) (?:(?:to be|were|was) )(.+)", text
    )
    said = re.fullmatch(
        r"(.+?) (?:should(?: be)?|must be|needs? to be|has to be|have to be|ought to be|shall be) (.+)", text
    )
    wish = wish or (None if re.match(r"(?:there|i) ", text) else said)
    if wish is not None:
        first, _, rest = wish[2].partition(" ")
        verb = _order_verb(first)
        if first.endswith(("ed", "en")) and verb != first and re.fullmatch(words.VERB, verb):
            return f"{verb} {wish[1]} {rest}".strip()
        if first in ("gone", "away"):
            return f"remove {wish[1]}"
        return f"make {wish[1]} {wish[2]}"
    done = match and re.fullmatch(r"(.+) (removed|deleted|erased|gone|blurred|brightened|darkened|enlarged)", match[1])
    if done:
        return f"{_order_verb(done[2]) if done[2] != 'gone' else 'remove'} {done[1]}"
    return f"add {match[1]}" if match is not None else text


def _order_verb(word: str) -> str:
    base = words.base_form(word)
    return base if re.fullmatch(words.VERB, base) else word


def _try(reader: Reader, text: str) -> list[Named] | None:
    """The targets of an order, taken up by the reader; None where no rule understands it."""
    shared = _several(reader, text)
    if shared is not None:
        return shared
    cut = re.fullmatch(
        r"(.+?),? (?:except(?: for)?|apart from|other than|excluding|aside from|but not|save for) (.+)", text
    )
    for order, left_out in ([(cut[1], cut[2])] if cut else []) + [(text, "")]:
        found = _first_rule(reader, order)
        if found is not None:
            _take_up(reader, found, left_out)
            return found
    return None


def _several(reader: Reader, text: str) -> list[Named] | None:
    """ "make the cup red, the plate blue": an order for each, where every part is one; else None."""
    match = re.match(rf"({words.VERB}) (?=\S)", text)
    parts = split_list(text[match.end() :]) if match else []
    if match is None or len(parts) < 2 or re.fullmatch(rf"{words.REMOVE}|{words.INSERT}|give", match[1]):
        return None
    trial = replace(reader, targets=list(reader.targets), keep=list(reader.keep), unread=[])
    for part in parts:
        found = _first_rule(trial, f"{match[1]} {part}", loose=False)
        if not found:
            return None
        _take_up(trial, found, "")
    fresh = trial.targets[len(reader.targets) :]
    reader.targets, reader.mentioned = trial.targets, trial.mentioned
    return fresh


def _first_rule(reader: Reader, text: str, loose: bool = True) -> list[Named] | None:
    for pattern, handler in RULES:
        if not loose and handler in LOOSE:
            continue
        match = pattern.fullmatch(text)
        found = handler(reader, match) if match is not None else None
        if found is not None:
            return found
    return None


def _take_up(reader: Reader, found: Sequence[Named], left_out: str) -> None:
    for named in found:
        noun = Noun(named.label, named.phrase, named.excluded, named.of)
        for text in (*reader.excluded, *([left_out] if left_out else [])):
            excluded = tuple(read_excluded(text, noun, reader.mentioned))
            named = replace(named, excluded=named.excluded + excluded)
        reader.targets.append(named)
        if named.operation == "remove" and named.of is not None:  # what is gone is no more "it"
            noun = Noun(named.of.head, named.of)
        reader.mentioned = reader.mentioned.with_noun(noun)


def _rule(*patterns: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        RULES.extend((re.compile(pattern), handler) for pattern in patterns)
        return handler

    return add


def _each(nouns: Sequence[Noun], operation: Operation, **parameters: Scalar) -> list[Named] | None:
    """A target for each noun; None where there is none."""
    return [_named(noun, operation, parameters) for noun in nouns] or None


def _named(noun: Noun, operation: Operation, parameters: dict[str, Scalar], where: Place | None = None) -> Named:
    role = {"insert": "add", "remove": "remove"}.get(operation, "change")
    return Named(noun.label, role, operation, noun.phrase, parameters, noun.excluded, noun.of, where)  # type: ignore[arg-type]


def _unarticled(text: str) -> str:
    return re.sub(r"^(?:a|an|the|some|be) ", "", text)


def _look(noun: Noun) -> dict[str, Scalar]:
    """The parameters of a thing that appears: its colour, where one is named, and the rest as its shape."""
    head = noun.phrase.head if noun.phrase else noun.label
    match = re.search(rf"(?:^|(?<= )){words.COLOR} (?=\w)", head)
    modifier = re.search(words.MODIFIER, head)
    if match is None or (modifier is not None and match.start() > modifier.start()):
        return {"shape": head}
    return {"color": words.color_name(match[0].strip()), "shape": head[: match.start()] + head[match.end() :]}


def _place(reader: Reader, text: str) -> Place | None:
    """The place that `text` ("on the table", "in the upper left corner") says; None where it says none."""
    match = _ABSOLUTE.fullmatch(text)
    if match is not None and match[1] in words.POSITIONS:
        return Place(words.POSITIONS[match[1]])
    match = re.fullmatch(rf"({_RELATION}) (.+)", text)
    if match is None or re.fullmatch(words.WHOLE, match[2]):
        return None
    if match[2] in ("top", "it") and reader.mentioned.last is None:
        return None
    nouns = reader.nouns(match[2])
    return Place(_RELATED[match[1]], nouns[0].phrase) if nouns and nouns[0].phrase else None


def _split_place(reader: Reader, text: str) -> tuple[str, Place | None]:
    """(the words before its place, the place)."""
    text = re.sub(rf" from image \d+| (?:to|in|into|on|onto|of) {words.WHOLE}$", "", text)
    for match in re.finditer(rf" (?={_RELATION} )", text):
        behind = text[match.end() :]
        if re.match(rf"in {_WORN}", behind) or re.match(r"to (?:say|read|be|look|make|match|show|go) ", behind):
            continue
        place = _place(reader, behind)
        if place is not None:
            return text[: match.start()], place
    return text, None


# --- what only says which thing is meant


@_rule(rf"{words.LOOK_AT} {NP}")
def _look_at(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if re.search(r"(?:^| )(?:away|off|out|from|down)\b", match["np"]):
        return None
    for noun in reader.nouns(match["np"]):
        reader.mentioned = reader.mentioned.with_noun(noun)
    return []


# --- text

_IN_COLOR = rf"(?: (?:in|with|using) (?:a )?(?P<color%d>{words.COLOR})(?: (?:letters|text|paint|font|ink|color))?)?"
_KIND_OF_TEXT = (
    r"(?:(?:the |a |some )?(?:word|words|text|caption|title|letters?|phrase|name|slogan|message|label"
    r"|inscription|number"
    r"|heading|quote|sentence|initials|logo)(?: (?:saying|that says|reading|that reads|which says|with))? )?"
)


@_rule(
    rf'{words.TEXT} {_KIND_OF_TEXT}"(?P<quote>\d+)"{_IN_COLOR % 1}'
    rf"(?: (?P<place>(?:{_RELATION}) .+?){_IN_COLOR % 2})?"
)
def _write(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    parameters: dict[str, Scalar] = {"text": reader.quotes[int(match["quote"])]}
    color = match["color1"] or match["color2"]
    if color:
        parameters["color"] = words.color_name(color)
    return _text_on(reader, match["place"], parameters)


def _text_on(reader: Reader, place: str | None, parameters: dict[str, Scalar]) -> list[Named] | None:
    where = _place(reader, place) if place else None
    if where is None or where.anchor is None:
        return [Named(IMAGE, "change", "text", None, parameters, where=where)]
    thing = re.sub(rf"^(?:{_RELATION}) ", "", place or "")
    nouns = reader.nouns(thing)
    relation = None if where.relation in ("on", "at", "in") else Place(where.relation)
    return [_named(noun, "text", parameters, relation) for noun in nouns] or None


@_rule(
    r"(?:write|engrave|carve|stencil|embroider|print|type) (?:the (?:word|words|text) )?"
    r"(?P<words>[^\"]+?) (?P<place>(?:on|onto|in|across|at) .+)",
    r"(?:add|put|place|insert|paint) the (?:word|words|text|caption|name) (?P<words>[^\"]+?) "
    r"(?P<place>(?:on|onto|in|across|at|to) .+)",
)
def _write_unquoted(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    at = reader.written.lower().find(match["words"])
    text = reader.written[at : at + len(match["words"])] if at >= 0 else match["words"]
    return _text_on(reader, match["place"], {"text": text})


@_rule(
    r'(?:replace|change|swap|switch|edit|turn)(?: (?:the )?(?:text|word|words))? "(?P<old>\d+)"(?: '
    r'(?:on|in) (?P<first>.+?))? (?:with|to|for|into|by) "(?P<new>\d+)"(?: (?:on|in|at) (?P<np>.+))?'
)
def _rewrite(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    parameters: dict[str, Scalar] = {
        "text": reader.quotes[int(match["new"])],
        "from_text": reader.quotes[int(match["old"])],
    }
    thing = match["np"] or match["first"]
    if thing is None:
        return [Named(IMAGE, "change", "text", None, parameters)]
    return _each(reader.nouns(thing), "text", **parameters)


@_rule(
    rf"(?:change|replace|make|edit|update|set|turn|have|let) {NP} (?:so (?:that )?(?:it|they) (?:says?"
    rf"|reads?)|to say|to read|says?|reads?|to|with|into|display|show)"
    rf'(?: (?:the )?(?:text|word|words))? "(?P<quote>\d+)"{_IN_COLOR % 1}'
)
def _reword(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    parameters: dict[str, Scalar] = {"text": reader.quotes[int(match["quote"])]}
    if match["color1"]:
        parameters["color"] = words.color_name(match["color1"])
    if re.fullmatch(r"(?:the )?(?:text|caption|title|words?|wording)", match["np"]) and reader.mentioned.last is None:
        return [Named(IMAGE, "change", "text", None, parameters)]
    return _each(reader.nouns(match["np"]), "text", **parameters)


# --- the image as a whole


@_rule(
    rf"(?:increase|boost|raise|enhance|intensify|up|more|strengthen|add more|turn up|pump up|bump up"
    rf"|add) (?:the |more |some )?(?P<what>{words.QUALITY})(?: (?:of|in|to) (?P<np>.+))?"
)
def _more(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _whole_or(reader, match["np"], f"more {match['what']}")


@_rule(
    rf"(?:reduce|decrease|lower|less|weaken|turn down|drop|tone down|cut) (?:the )?"
    rf"(?P<what>{words.QUALITY})(?: (?:of|in) (?P<np>.+))?"
)
def _less(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _whole_or(reader, match["np"], f"less {match['what']}")


@_rule(
    r"(?:(?P<up>increase|boost|raise|turn up)|reduce|decrease|lower|turn down) (?:the )?(?:brightness"
    r"|exposure|light)(?: (?:of|in|on) (?P<np>.+))?"
)
def _brightness(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns = reader.nouns(match["np"]) if match["np"] else [Noun(IMAGE, None)]
    return _each(nouns, "relight", gain=BRIGHTER if match["up"] else DARKER)


@_rule(
    rf"(?:change|set|switch|make|turn|adjust|shift) (?:the )?{words.ATTRIBUTE}(?: of "
    rf"(?:{words.WHOLE}))? (?:from .+ )?(?:to|into|be)(?: be)? (?P<what>.+)"
)
def _attribute(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _whole_or(reader, None, _unarticled(match["what"]))


@_rule(
    rf"(?:add|apply|use|put|give it) (?:a |an |the |some |more )?(?P<what>{words.EFFECT}|.+ (?:filter"
    rf"|effect|style|vibe|overlay|look|color grade|color grading|tone))(?: (?:to|on|over) (?P<np>.+))?"
)
def _effect(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _whole_or(reader, match["np"], match["what"])


@_rule(r"(?:make it|let it|have it) (?P<what>rain|snow|be .+)")
def _weather(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _whole_or(reader, None, re.sub("^be ", "", match["what"]))


@_rule(
    rf"(?:redraw|render|recreate|repaint|reimagine|restyle|stylize|stylise|draw|convert|turn|make"
    rf"|paint|show|edit|transform|put) {NP} (?P<what>(?:in (?:the |a |an )?(?:style|manner) of|in .+"
    rf" style|as if|like) ?.*)"
)
def _style(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _whole_or(reader, re.sub(r" (?:look|appear|to look)$", "", match["np"]), match["what"])


def _whole_or(reader: Reader, thing: str | None, change: str) -> list[Named] | None:
    """An open change of the whole image, or of a thing where one is named."""
    if re.fullmatch(words.VAGUE, change):
        return None
    return _each(reader.nouns(thing) if thing else [Noun(IMAGE, None)], "other", change=change)


# --- replacing


@_rule(
    r"(?:put|add|place|insert|use|draw|have) (?P<new>.+?) (?:(?:in|at|into) (?:its|his|her|their|that"
    r"|the same) (?:place|spot|position)|there|instead|where (?:it|they|he|she) (?:is|was|are|were))"
)
def _in_its_place(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if not reader.targets or reader.targets[-1].operation != "remove":
        return None
    gone = reader.targets.pop()
    return _replaced(reader, [Noun(gone.label, gone.phrase, gone.excluded, gone.of)], match["new"])


@_rule(
    rf"(?:put|place|use|add|insert|draw|show) (?P<new>.+?) (?:(?:instead|in place|in the place|in"
    rf" lieu) of {NP}|where {NP2} (?:is|are|was|were|stands|sits))"
)
def _instead_of(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _replaced(reader, reader.nouns(match["np"] or match["np2"]), match["new"])


@_rule(
    rf"{words.REPLACE}(?: out)? {NP} (?:with|for|by|to|into) (?P<new>.+)",
    rf"change {NP} (?:for|with) (?P<new>.+)",
)
def _replace(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _replaced(reader, reader.nouns(match["np"]), match["new"])


def _replaced(reader: Reader, nouns: list[Noun], new: str) -> list[Named] | None:
    made = read_noun(new, reader.mentioned.with_noun(nouns[0]) if nouns else reader.mentioned)
    if made is None or made.phrase is None or not nouns:
        return None
    if re.fullmatch(words.COLOR, _unarticled(new)) and not re.match(r"(?:a|an|some) ", new):
        return _each(nouns, "recolour", color=words.color_name(new))
    if any(noun.phrase is None for noun in nouns):
        return _each(nouns, "other", change=_unarticled(new))
    return _each(nouns, "replace", **_look(made))


# --- colour


@_rule(
    rf"(?:change|set|switch|make|turn|alter|adjust) (?:the )?(?:colou?rs?|shade|hue) of {NP} (?:from"
    rf" .+ )?(?:to|into|be) (?:be )?(?:a )?(?P<color>{words.COLOR}|another color|different color)(?:"
    rf" colou?r)?",
    rf"(?:change|set|switch|make|turn) {NP}(?:'s)? colou?rs? (?:from .+ )?(?:to |into |in |be )?(?:be"
    rf" )?(?P<color>{words.COLOR}|another color|a different color)",
    rf"{words.PAINT} {NP} (?:from {words.COLOR} )?(?:in(?:to)? |to |with |be )?(?:be )?(?:a |an"
    rf" )?{words.DEGREE}(?P<color>{words.COLOR}|another color|different color)(?: colou?r| paint| tone"
    rf"| instead)?",
)
def _recolour(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if match["color"].endswith(" color"):
        return _each(reader.nouns(match["np"]), "recolour")
    color = words.color_name(match["color"])
    last = reader.targets[-1] if reader.targets else None
    if match["np"] in ("it", "them") and last is not None and last.operation in ("insert", "replace"):
        reader.targets[-1] = replace(last, parameters={"color": color, **last.parameters})
        return []
    nouns = reader.nouns(match["np"])
    if color == "black and white" and nouns and nouns[0].phrase is None:
        return _each(nouns, "other", change=color)
    return _each(nouns, "recolour", color=color)


@_rule(rf"(?:change|alter) (?:the )?colou?rs? of {NP}")
def _some_colour(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _each(reader.nouns(match["np"]), "recolour")


# --- texture

_PATTERNS = r"(?:(?:polka )?dots|stripes|checks|a checkerboard|a plaid pattern|waves)"


@_rule(
    rf"(?:put|add|paint|draw|print) (?:a pattern of |some )?(?P<what>{_PATTERNS}) (?:on|to|onto|over) {NP}",
    rf"(?:change|set|switch|make) (?:the )?(?:texture|material|pattern|surface) of {NP} (?:from .+ )?"
    rf"(?:to|into|be) (?P<what>.+)",
    rf"{words.COVER} (?P<np>.+) with (?:a pattern of )?(?P<what>.+)",
    rf"{words.COVER} (?P<np>.+) in (?:a pattern of )?(?P<what>.+)",
    rf"give {NP} (?:a |an )?(?:pattern of (?P<what>.+)|(?P<what2>.+) (?:pattern|texture|surface|finish))",
    rf"(?:make|turn|change|transform|convert) {NP} (?:out of |of |from |into |to |to be |be )?(?:look "
    rf"|look like )?(?:(?:it's |it is |it was |they're |they are |they were )?made (?:out )?(?:of"
    rf"|from) )?(?P<what>{words.TEXTURE})",
)
def _texture(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    said = match["what"] or match["what2"]
    if said == "a pattern":
        return _each(reader.nouns(match["np"]), "texture")
    return _each(reader.nouns(match["np"]), "texture", texture=words.texture_name(said))


# --- light and sharpness


@_rule(
    rf"{words.BRIGHTEN} {NP}(?: up)?|(?:make|turn|get) {NP1} {words.DEGREE}(?:brighter|lighter|bright)"
    rf"|put {NP2} in (?:brighter light|the light|more light)"
)
def _brighten(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _each(reader.nouns(_one_of(match)), "relight", gain=BRIGHTER)


@_rule(
    rf"{words.DARKEN} {NP}(?: down)?|(?:make|turn|get) {NP1} {words.DEGREE}(?:darker|dimmer|dark)|put"
    rf" {NP2} in (?:the |more )?(?:shade|shadow|dark)"
)
def _darken(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _each(reader.nouns(_one_of(match)), "relight", gain=DARKER)


@_rule(
    rf"put {NP} out of focus|(?:make|turn|get) {NP1} {words.DEGREE}(?:more )?(?:blurry|blurred"
    rf"|blurrier|out of focus|unfocused)|{words.BLUR} (?:out )?{NP2}(?: until .+)?(?: out)?"
)
def _blur(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _each(reader.nouns(_one_of(match)), "blur")


def _one_of(match: re.Match[str]) -> str:
    """The noun phrase of a rule with several wordings."""
    return next(text for name, text in match.groupdict().items() if name.startswith("np") and text)


# --- size and place


@_rule(rf"(?:swap|switch|exchange) (?:the )?(?:positions?|places?|locations?) of {NP}|(?:swap|switch|exchange) {NP1}")
def _change_places(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns = reader.nouns(_one_of(match))
    return (
        _each(nouns, "move") if len(nouns) == 2 or (nouns and nouns[0].phrase and nouns[0].phrase.count == 2) else None
    )


@_rule(
    rf"{words.GROW} {NP}|(?:make|scale|turn|get) {NP1} (?:{words.DEGREE}{words.BIGGER}|up)(?: in"
    rf" size)?|increase {NP2}(?:'s)? size"
)
def _grow(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _each(reader.nouns(re.sub(r"^the size of ", "", _one_of(match))), "resize", size="bigger")


@_rule(
    rf"{words.SHRINK} {NP}|(?:make|scale|turn|get) {NP1} (?:{words.DEGREE}{words.SMALLER}|down)(?: in"
    rf" size)?|(?:reduce|decrease) {NP2}(?:'s)? size"
)
def _shrink(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _each(reader.nouns(re.sub(r"^the size of ", "", _one_of(match))), "resize", size="smaller")


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
    return _each(reader.nouns(match["np"]), "move", **({"way": " ".join(way)} if way else {}))


@_rule(rf"(?P<verb>{words.MOVE}) {NP} (?P<place>(?:{_RELATION}|in the middle) .+)")
def _move_to(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if re.fullmatch("put|place", match["verb"]) and not re.match(
        r"(?:the|his|her|its|this|that|it|them|my) ?", match["np"]
    ):
        return None
    thing, place = _split_move(reader, f"{match['np']} {match['place']}")
    return [_named(noun, "move", {}, place) for noun in reader.nouns(thing)] or None if place else None


def _split_move(reader: Reader, text: str) -> tuple[str, Place | None]:
    """As `_split_place`, but a side of the image next to the thing ("the cup on the left") is the thing's own."""
    for match in re.finditer(rf" (?=({_RELATION}) )", text):
        place = _place(reader, text[match.end() :])
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
    return [_named(noun, "insert", _look(noun), place) for noun in new]


@_rule(rf"{words.INSERT} (?P<new>.+)")
def _insert(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    found: list[Named] = []
    for part in split_list(match["new"]):
        thing, place = _split_place(reader, part)
        if found and place is None and found[-1].where is not None and re.match(r"(?:the|his|her|their|its) ", part):
            found += _also_at(found[-1], found[-1].where, read_noun(part, reader.mentioned))
            continue
        noun = read_noun(re.sub(_POSTURE, "", thing), reader.mentioned)
        if noun is None or noun.phrase is None:
            return None
        found.append(_named(replace(noun, of=None), "insert", _look(noun), place))
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
    thing = _one_of(match)
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
    return [_named(replace(noun, of=noun.of or of), "remove", parameters) for noun in nouns] or None


# --- turning into something, and whatever else is asked


@_rule(rf"{words.TURN} {NP} (?:into|to) (?P<new>.+)")
def _turn_into(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns, new = reader.nouns(match["np"]), match["new"]
    if re.fullmatch(r"(?:the )?(?:day|night|daytime|summer|winter|spring|autumn|fall|morning|evening)", match["np"]):
        return _whole_or(reader, None, _unarticled(new))
    if re.search(r"(?:expression|pose|hairstyle|mood|shape|age|posture|gesture|gaze)$", match["np"]):
        return _each(nouns, "other", change=_unarticled(new))
    return _replaced(reader, nouns, new)


@_rule(
    rf"(?:turn|switch) (?P<way>on|off) (?P<np>.+)|(?:turn|switch) {NP1} (?P<way1>on|off|around|upside down|sideways)"
)
def _switch(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _each(reader.nouns(_one_of(match)), "other", change=match["way"] or match["way1"])


@_rule(
    rf"(?:make|turn|convert|change|transform|set) (?P<np>{words.WHOLE}|it|this) (?:into |to |look |in )?(?P<what>.+)"
)
def _make_whole(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns = reader.nouns(match["np"])
    if nouns and nouns[0].phrase is None:
        return _whole_or(reader, None, _unarticled(match["what"]))
    return _replaced(reader, nouns, match["what"]) if re.match(r"(?:a|an) ", match["what"]) else None


@_rule(rf"(?:make|turn) {NP} (?P<new>(?:a|an) (?!(?:bit|little|lot|touch|different)\b).+)")
def _make_a(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _replaced(reader, reader.nouns(match["np"]), match["new"])


_CHANGE = (
    r"(?:(?:look|appear|seem|feel) (?P<look>.+)|(?P<change>(?:more|less|very|slightly|a bit|wear"
    r"|wearing|hold|holding|stand|sit|jump|run|face|point"
    r"|smile|laugh|cry|wave|dance|sleep|fly)\b.*))"
)


@_rule(
    rf"(?:make|have|let|get) (?P<np>.+?) (?:to )?{_CHANGE}|(?:make|have|let|get|turn) {NP1} (?:to )?(?P<word>[a-z-]+)"
)
def _make(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    change = match["look"] or match["change"] or match["word"]
    return _whole_or(reader, _one_of(match), change)


_TAIL = (
    r"(?P<tail> (?:\d+|by|upside|clockwise|counter|anti|horizontally|vertically|slightly|more|wide"
    r"|halfway|completely|in half|a bit|a little|sideways|around|backwards?|forwards?|so that|until"
    r"|apart|open|shut|out|up|down)\b.*)?"
)


@_rule(rf"(?P<verb>{words.OTHER}) {words.WHOLE}(?P<tail> .+)")
def _other_whole(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return _whole_or(reader, None, match["verb"] + match["tail"])


@_rule(
    rf"(?P<verb>{words.OTHER}) (?P<np>.+?){_TAIL}|(?P<verb1>[a-z]+(?: up| down| off| out| on)?) "
    rf"(?P<np1>(?:the|his|her|its|their|my|all|every|each|both) .+?|it"
    rf"|them){_TAIL.replace('<tail>', '<tail1>')}"
)
def _other(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    verb, tail = match["verb"] or match["verb1"], match["tail"] or match["tail1"] or ""
    nouns = reader.nouns(_one_of(match))
    whole = any(noun.phrase is None for noun in nouns)
    vague = verb in ("improve", "enhance", "edit", "modify", "adjust", "alter", "fix", "change", "update")
    no_order = r"is|are|was|were|what|who|where|why|how|does|do|did|has|have|with|in|on|at|of"
    if not match["verb"] and re.fullmatch(rf"{no_order}|{words.VERB}", verb):
        return None
    if vague and whole:
        return None
    if verb in ("change", "edit", "modify", "alter") and not tail:
        return _each(nouns, "other")
    return _each(nouns, "other", change=f"{verb}{tail}")


#: Rules that take nearly anything; they do not decide whether a list is a list of orders.
LOOSE: frozenset[Handler] = frozenset((_other, _make, _look_at))
