"""Noun phrases: "all of the cups on the left except the red one" -> what to look for, which count, what not.

It knows nothing of verbs. `Mentioned` is what was named before, for "it" and "one".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.requests.instructions import lexicon as words
from pipeline.requests.instructions.named import IMAGE, Count, Phrase

_POSSESSIVE = r"(?:his|her|its|their)"
_DETERMINER = r"(?:the|a|an|this|that|these|those|my|your|our|any|such|another|one more)"
_QUANTIFIERS: tuple[tuple[str, Count], ...] = (
    (r"(?:all|every|each|any)(?: one| single one)?(?: of)?(?: single)?", "all"),
    (r"both(?: of)?", 2),
    (r"(?:some|several|many|a few|few|lots of|a lot of|a bunch of|various|multiple|most of|most)(?: more| of)?", "all"),
    (r"(?:more|extra|additional)", "all"),
)
_EVERYTHING = {"everything": "everything", "everyone": "person", "everybody": "person", "anything": "everything"}
_PRONOUN = r"(?:it|this|that|them|they|these|those|him|her|he|she|this one|that one|itself|the thing|ones?)"
_SIDE = r"(?: (?:side|corner|part|edge|half|end|hand side|row|area))?"
_PLACE_BEHIND = re.compile(
    rf" (?:(?:that is |which is |located |standing |sitting )?(?:(?:on|at|in|to|from|near) the |in (?=front$)))"
    rf"(?:(?:far|very|extreme|most) )?({words.POSITION}|front|back|foreground){_SIDE}(?: of the "
    rf"(?:image|picture|photo|scene|frame))?$"
)
_CLOSE = re.compile(r" (closest|nearest|farthest|furthest) (?:to|from) (?:the camera|us|the viewer|me)$")
_UNFINISHED = re.compile(
    rf"(?:^| )(?:{_DETERMINER}|of|on|in|to|at|from|with|and|or|his|its|their|every|each|by|for|is"
    rf"|are)$(?<!^this)(?<!^that)"
)
_NO_POSITION = frozenset("door doors yard porch lawn teeth wheel wheels light lights pack packs".split())
#: What belongs to somebody itself: "his" behind it means somebody else.
_OWNED = frozenset(
    "hair shirt face eyes eye hand hands arm arms leg legs head dress hat jacket coat skirt pants shoes lips mouth nose"
    " ears ear skin beard smile tie scarf glasses sunglasses neck fur tail handle lid roof collar".split()
)
_ALIKE = rf"(?:{words.POSITION}|{words.ORDINAL}|{words.COLOR})"
_SHARED_NOUN = re.compile(
    rf"(?<!from )(?<!on )(?<!in )(?<!at )(?<!to )\b((?:the )?{_ALIKE}) and ((?:the )?{_ALIKE}) ((?!and\b)[a-z][^,]*)$"
)


@dataclass(frozen=True)
class Noun:
    """One noun phrase as read. phrase: None for the whole image."""

    label: str
    phrase: Phrase | None
    excluded: tuple[Phrase, ...] = ()
    of: Phrase | None = None


@dataclass(frozen=True)
class Mentioned:
    """What "it", "one", "the other" may stand for: the nouns named before, oldest first."""

    nouns: tuple[Noun, ...] = ()

    def with_noun(self, noun: Noun) -> "Mentioned":
        """The same with one more."""
        return Mentioned((*self.nouns, noun)) if noun.phrase else self

    @property
    def last(self) -> Noun | None:
        """The thing named last."""
        return self.nouns[-1] if self.nouns else None


def read_nouns(text: str, mentioned: Mentioned) -> list[Noun]:
    """The nouns of a list: "the cup, the plate and the fork". Empty where `text` is no list of noun phrases."""
    text, left_out = _split_except(text.strip(" ,"))
    nouns: list[Noun] = []
    for part in split_list(text):
        noun = read_noun(part, mentioned)
        if noun is None:
            return []
        nouns.append(noun)
        mentioned = mentioned.with_noun(noun)
    if not left_out or not nouns:
        return nouns
    excluded = tuple(read_excluded(left_out, nouns[-1], mentioned))
    return [replace(noun, excluded=noun.excluded + excluded) for noun in nouns]


def read_excluded(text: str, noun: Noun | None, mentioned: Mentioned) -> Iterator[Phrase]:
    """The phrases behind "except"; "one" in them stands for `noun`."""
    known = mentioned.with_noun(noun) if noun else mentioned
    for part in split_list(text):
        found = read_noun(part, known)
        if found is not None and found.phrase is not None:
            yield found.phrase


def _split_except(text: str) -> tuple[str, str]:
    parts = re.split(
        r",? ?\b(?:except(?: for)?|apart from|other than|excluding|besides|aside from|save for|but not"
        r"|but(?= (?:the|for|my|his|her|its|this|that)\b)(?: for)?|with the exception of|leaving out)\b ",
        text,
        maxsplit=1,
    )
    return (parts[0].strip(" ,"), parts[1]) if len(parts) == 2 else (text, "")


def split_list(text: str) -> list[str]:
    """The parts of "a, b and c"; "black and white cat" is one."""
    text = _with_shared_noun(text)
    text = re.sub(r"^both (?=(?:the|a|an|his|her|its|my) .* and )", "", text)
    parts = re.split(r",? (?:and|plus|as well as|&|or) |, ", text)
    colour = re.compile(rf"(?:^|.* ){words.COLOR}$")
    joined: list[str] = []
    for part in (part.strip() for part in parts):
        if joined and colour.match(joined[-1]) and re.match(rf"{words.COLOR}\b", part):
            joined[-1] += f" and {part}"
        elif part:
            joined.append(part)
    return joined


def _with_shared_noun(text: str) -> str:
    """ "the first and the last car" with its noun said twice."""
    match = _SHARED_NOUN.search(text)
    if match is None or re.fullmatch(words.COLOR, f"{match[1]} and {match[2]}") or not match[1].startswith("the "):
        return text
    if re.fullmatch(words.COLOR, match[1][4:]) and not match[2].startswith("the "):
        return text  # "the red and white cup" is one
    noun = match[3]
    if not match[2].startswith("the "):
        noun = " ".join(words.singular(word) or word for word in noun.split(" "))
    return f"{text[: match.start()]}{match[1]} {noun} and {match[2]} {noun}"


def read_noun(text: str, mentioned: Mentioned) -> Noun | None:
    """One noun phrase, None where `text` is none."""
    text = re.sub(r"^(?:only|just|also) ", "", text.strip(" ,"))
    if not re.search(r"[^\W_]", text) or _UNFINISHED.search(text):
        return None
    if re.fullmatch(rf"{words.WHOLE}|everything(?: in (?:{words.WHOLE}))?|{_PRONOUN}", text):
        return _standing_for(text, mentioned)
    if re.fullmatch(r"(?:everything|anything|all|the) (?:else|rest|the rest)|the rest of (?:it|the .+)", text):
        named = tuple(noun.phrase for noun in mentioned.nouns if noun.phrase)
        return Noun("everything else", Phrase("everything", count="all"), named)
    text, of = _owner(text, mentioned)
    text, count = _quantity(re.sub(rf" (?:in|from|of|on) {words.WHOLE}$", "", text))
    if re.match(words.MODIFIER, f" {text}") and mentioned.last is not None and mentioned.last.phrase is not None:
        text = f"{mentioned.last.phrase.head.split(' ')[-1]} {text}"
    other = re.match(r"(?:other|remaining) ", text) is not None
    label = _with_noun(text, mentioned)
    if label is None or not label:
        return None
    bare, position, rank = _position(label)
    head, plural = _head(re.sub(r"^(?:other|remaining) ", "", bare))
    if count is None:
        count = "all" if plural else 1
    excluded = tuple(_same_named_before(head, mentioned)) if other else ()
    return Noun(label, Phrase(head, position, rank, count), excluded, of)


def _standing_for(text: str, mentioned: Mentioned) -> Noun | None:
    if text.startswith("everything"):
        return Noun("everything", Phrase("everything", count="all"))
    if re.fullmatch(words.WHOLE, text) or (mentioned.last is None and text in ("it", "this", "that")):
        return Noun(IMAGE, None)
    if mentioned.last is not None:
        return mentioned.last
    person = {"him": "man", "he": "man", "her": "woman", "she": "woman"}.get(text)
    return Noun(person, Phrase(person)) if person else None


def _owner(text: str, mentioned: Mentioned) -> tuple[str, Phrase | None]:
    match = re.match(rf"{_POSSESSIVE} (?=\w)", text)
    if match is None:
        return text, None
    owners = [noun.phrase for noun in mentioned.nouns if noun.label.split(" ")[-1] not in _OWNED]
    return text[match.end() :], owners[-1] if owners else None


def _quantity(text: str) -> tuple[str, Count | None]:
    """The words behind article, number and quantifier, and the count where they say one."""
    count: Count | None = None
    for pattern, quantity in _QUANTIFIERS:
        match = re.match(rf"{pattern} ", text)
        if match is not None:
            text, count = text[match.end() :], quantity
            break
    text = re.sub(rf"^(?:{_DETERMINER}|{_POSSESSIVE}) ", "", text)
    match = re.match(rf"({words.NUMBER}) (?:of (?:the|my|his|her|its|these|those) |more )?(?=\w)", text)
    if match is None:
        return text, count
    return text[match.end() :], words.number(match[1])


def _with_noun(text: str, mentioned: Mentioned) -> str | None:
    """`text` with "one", or nothing, behind an adjective replaced by the noun named before."""
    if text in _EVERYTHING:
        return text
    last = mentioned.last.phrase.head.split(" ")[-1] if mentioned.last and mentioned.last.phrase else None
    alone = re.fullmatch(rf"(?:other|others|remaining|rest|{words.POSITION}|{words.ORDINAL})", text)
    if alone and last:
        return re.sub(r"^others$", "other", text) + f" {last}"
    match = re.search(r"\bones?\b", text)
    if match is None:
        return text
    return text[: match.start()] + last + text[match.end() :] if last else None


def _position(text: str) -> tuple[str, str | None, int]:
    """(the words without position and ordinal, position, rank)."""
    position, rank = None, 1
    match = _PLACE_BEHIND.search(text) or _CLOSE.search(text)
    if match is not None and match[1] != "foreground":
        text, position = text[: match.start()], words.POSITIONS[match[1]]
    match = re.match(rf"({words.ORDINAL}) (?=\w)", text)
    if match is not None:
        text, rank = text[match.end() :], words.ordinal_number(match[1])
        position = position or "left"
    match = re.match(rf"(?:far |very )?({words.POSITION})(?: most)? (?=(\w+))", text)
    if match is not None and not (match[1] in ("front", "back") and match[2] in _NO_POSITION):
        position = words.POSITIONS[match[1]] if position is None or rank > 1 else f"{position} {match[1]}"
        text = text[match.end() :]
    return text, position, rank


def _head(text: str) -> tuple[str, bool]:
    """(the phrase with its noun in the singular, whether it was a plural)."""
    if text in _EVERYTHING:
        return _EVERYTHING[text], True
    match = re.search(words.MODIFIER, text)
    core, rest = (text[: match.start()], text[match.start() :]) if match else (text, "")
    *before, noun = core.split(" ")
    one = words.singular(noun)
    return " ".join((*before, one or noun)) + rest, one is not None


def _same_named_before(head: str, mentioned: Mentioned) -> Iterator[Phrase]:
    noun = head.split(" ")[-1]
    for known in mentioned.nouns:
        if known.phrase is not None and known.phrase.head.split(" ")[-1] == noun:
            yield known.phrase
