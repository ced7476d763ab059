"""What the rules of the parser share: its state, pieces of patterns, and how a target is put together."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.requests.instructions import lexicon as words
from pipeline.requests.instructions.named import IMAGE, Named, Phrase, Place
from pipeline.requests.instructions.nouns import Mentioned, Noun, read_noun, read_nouns
from schemas.record import Scalar
from schemas.request import Operation

#: A noun phrase does not end before its noun.
_WHOLE_NP = "".join(rf"(?<!\b{word})" for word in "the a an its his their my every all each both of".split())
NP, NP1, NP2 = (rf"(?P<{name}>.+?{_WHOLE_NP})" for name in ("np", "np1", "np2"))
POSTURE = r" (?:sitting|standing|lying|flying|hanging|swimming|floating|walking|running|sleeping|resting|leaning)$"
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
RELATION = "(?:" + "|".join(sorted(_RELATED, key=len, reverse=True)) + ")"
_WORN = rf"(?:a|an|the|his|her) (?:\w+ ){{0,2}}{words.WEAR}\b"


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


Handler = Callable[[Reader, re.Match[str]], list[Named] | None]
#: A pattern that an order must match as a whole, and what reads the match: targets, or None where it is not for it.
Rule = tuple[re.Pattern[str], Handler]


def adder(rules: list[Rule]) -> Callable[..., Callable[[Handler], Handler]]:
    """A decorator that puts a handler under its patterns at the end of `rules`."""

    def rule(*patterns: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            rules.extend((re.compile(pattern), handler) for pattern in patterns)
            return handler

        return add

    return rule


def each(nouns: Sequence[Noun], operation: Operation, **parameters: Scalar) -> list[Named] | None:
    """A target for each noun; None where there is none."""
    return [named_thing(noun, operation, parameters) for noun in nouns] or None


def named_thing(noun: Noun, operation: Operation, parameters: dict[str, Scalar], where: Place | None = None) -> Named:
    role = {"insert": "add", "remove": "remove"}.get(operation, "change")
    return Named(noun.label, role, operation, noun.phrase, parameters, noun.excluded, noun.of, where)  # type: ignore[arg-type]


def unarticled(text: str) -> str:
    return re.sub(r"^(?:a|an|the|some|be) ", "", text)


def look_of(noun: Noun) -> dict[str, Scalar]:
    """The parameters of a thing that appears: its colour, where one is named, and the rest as its shape."""
    head = noun.phrase.head if noun.phrase else noun.label
    match = re.search(rf"(?:^|(?<= )){words.COLOR} (?=\w)", head)
    modifier = re.search(words.MODIFIER, head)
    if match is None or (modifier is not None and match.start() > modifier.start()):
        return {"shape": head}
    return {"color": words.color_name(match[0].strip()), "shape": head[: match.start()] + head[match.end() :]}


def read_place(reader: Reader, text: str) -> Place | None:
    """The place that `text` ("on the table", "in the upper left corner") says; None where it says none."""
    match = _ABSOLUTE.fullmatch(text)
    if match is not None and match[1] in words.POSITIONS:
        return Place(words.POSITIONS[match[1]])
    match = re.fullmatch(rf"({RELATION}) (.+)", text)
    if match is None or re.fullmatch(words.WHOLE, match[2]):
        return None
    if match[2] in ("top", "it") and reader.mentioned.last is None:
        return None
    nouns = reader.nouns(match[2])
    return Place(_RELATED[match[1]], nouns[0].phrase) if nouns and nouns[0].phrase else None


def split_place(reader: Reader, text: str) -> tuple[str, Place | None]:
    """(the words before its place, the place)."""
    text = re.sub(rf" from image \d+| (?:to|in|into|on|onto|of) {words.WHOLE}$", "", text)
    for match in re.finditer(rf" (?={RELATION} )", text):
        behind = text[match.end() :]
        if re.match(rf"in {_WORN}", behind) or re.match(r"to (?:say|read|be|look|make|match|show|go) ", behind):
            continue
        place = read_place(reader, behind)
        if place is not None:
            return text[: match.start()], place
    return text, None


def whole_or(reader: Reader, thing: str | None, change: str) -> list[Named] | None:
    """An open change of the whole image, or of a thing where one is named."""
    if re.fullmatch(words.VAGUE, change):
        return None
    return each(reader.nouns(thing) if thing else [Noun(IMAGE, None)], "other", change=change)


def replaced(reader: Reader, nouns: list[Noun], new: str) -> list[Named] | None:
    made = read_noun(new, reader.mentioned.with_noun(nouns[0]) if nouns else reader.mentioned)
    if made is None or made.phrase is None or not nouns:
        return None
    if re.fullmatch(words.COLOR, unarticled(new)) and not re.match(r"(?:a|an|some) ", new):
        return each(nouns, "recolour", color=words.color_name(new))
    if any(noun.phrase is None for noun in nouns):
        return each(nouns, "other", change=unarticled(new))
    return each(nouns, "replace", **look_of(made))


def one_of(match: re.Match[str]) -> str:
    """The noun phrase of a rule with several wordings."""
    return next(text for name, text in match.groupdict().items() if name.startswith("np") and text)
