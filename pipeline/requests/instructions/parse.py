"""Reads an English edit instruction by rules: which things it names, what becomes of each, and what is to stay.

A clause is matched against `RULES` in their order; the first that understands it decides. Nothing is carried out: an
instruction is words about an image, whatever it says. It needs no model. What it does not cover: other languages
(`not_english`), amounts, and comparisons between things.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from pipeline.requests.instructions import lexicon as words
from pipeline.requests.instructions.clauses import Clause, split_clauses, take_quotes
from pipeline.requests.instructions.named import CannotParse, Named, Parsed
from pipeline.requests.instructions.nouns import Noun, read_excluded, split_list
from pipeline.requests.instructions.reading import NP, Handler, Reader, Rule
from pipeline.requests.instructions.rules_looks import RULES as LOOKS
from pipeline.requests.instructions.rules_looks import read_look_at
from pipeline.requests.instructions.rules_things import RULES as THINGS
from pipeline.requests.instructions.rules_things import read_make, read_other

#: In the order in which they are tried.
RULES: tuple[Rule, ...] = (*LOOKS, *THINGS)
#: Rules that take nearly anything; they do not decide whether a list is a list of orders.
LOOSE: frozenset[Handler] = frozenset((read_other, read_make, read_look_at))
#: A longer order is not read.
CLAUSE_MAX_CHARS = 300
#: As many targets as a request may have.
TARGETS_MAX = 64
NOT_ENGLISH = "is not English; give it in English, or its targets with boxes"


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
