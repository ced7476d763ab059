"""An instruction -> its clauses, each an order of its own in lower case, without courtesies.

Quoted words are taken out first and stand as `"0"`, `"1"` ... in the clauses: nothing in them is read as an order.
"""

import re
from dataclasses import dataclass

from pipeline.requests.instructions import lexicon as words

_QUOTED = re.compile(
    r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|\u2018([^\u2019]+)\u2019|(?<![^\s(])'([^']+"
    r"(?:'\w[^']*)*)'(?!\w)|`([^`]+)`"
)
_COURTESY = re.compile(
    r"(?:please|pls|plz|kindly|(?:hey|hi|hello)(?: there)?|ok|okay|so|now|just|also|then|and|but"
    r"|maybe|perhaps|next|finally|first"
    r"|firstly|secondly|second|afterwards|after that|lastly|well|thanks|thank you|thx|dear \w+|simply"
    r"|only|instead|i think|i guess|actually|quickly|carefully"
    r"|(?:can|could|would|will) (?:you|u|we|i)|i(?:'d| would)? (?:really )?(?:like|love|want|need"
    r"|wish)(?: for)?(?: you| u)? to"
    r"|i(?:'m| was| am)|(?:would|do) you mind|wondering if (?:you|u) (?:could|can)|is it possible to|are you able to"
    r"|it would be (?:nice|great) if you (?:could|can)|let's|lets|let us|help me(?: to)?|try to|go ahead and|be sure to"
    r"|you should|we should|we need to|you need to|i need you to|your task is to|the task is to|make sure to"
    r"|(?:in|for|on|from) (?:this|the|my) (?:picture|image|photo|photograph|pic|scene)|(?:step"
    r" )?\d+[.):]|[-*•\u2013—]+|yo|um+|uh)"
    r"(?![\w'])[ ,:;.!…]*",
)
_THANKS = re.compile(
    r"[ ,;:.!…-]*(?:\b(?:please|pls|plz|thanks|thank you|thx|ty|cheers|for me|if possible|if (?:you|u) can|will you"
    r"|if you don't mind|as well|too|so much|a lot|in advance|right now|asap|ok|okay|would you"
    r"|instead)\b|:\)|:-\)|;\)|:d\b|<3|[\U0001F300-\U0001FAFF☀-➿]+)[ ,;:.!?…]*$"
)
_INSTEAD = re.compile(r"\binstead of ([^,.;]{1,80}), (?:put|use|have|show|add|place|draw) ", re.IGNORECASE)
_DETERMINED = r"(?:the|his|her|its|their|my|your|all|every|each|both|it|them)\b"
_NO_VERB = (
    r"(?:and|or|both|all|of|in|on|at|to|with|from|for|by|the|a|an|but|except|as|than|then|under|over|above|below|behind"
    r"|near|between|inside|into|onto|around|is|are|what|who|where|why|how|does|do|did|was|were|has|have|when|which|that"
    r"|if|not|only|just|excluding|besides|like|also|plus|while|so|because|across|off|out)"
)
_START = (
    rf"(?:{words.VERB}(?! of |'s|,| and |$)\b|{words.VERB}(?=$)|(?!{_NO_VERB}\b)[a-z]+ (?:{_DETERMINED})"
    r"|(?:removing|adding|making|changing|turning|replacing|deleting|painting|putting|blurring|moving|keeping|leaving"
    r"|erasing|brightening|darkening|swapping|writing|placing)\b|there (?:is|should|must)\b|i (?:want|need)\b)"
)
_JOINT = re.compile(
    rf"(?:\s*[.;!?…]+(?=\s|$)|\n|\s+(?:--|-|\u2013|—|->|→)\s+|:\s|,?\s*\b(?:and then|and also|and|then"
    rf"|but|while|whilst|plus|also|after that)\s+(?={_START}"
    rf"|(?:please|also|then|just|finally|not|next)\s+{_START})|\s*&\s*(?={_START})|,\s*(?=(?:(?:please"
    rf"|also|then|and|but|so|just|finally)\s+)*{_START})"
    rf"|\s*\b\d[.)]\s+(?={_START})|\s+(?=without (?!the |a |an |any |my )\w+ing\b)|\s+(?=(?:--|—"
    rf"|\u2013)? ?(?:but |and )?not (?:the|his|her|its|my)\b))"
)


@dataclass(frozen=True)
class Clause:
    """One order. text: lower case; written: the same with the case of the user, letter for letter."""

    text: str
    written: str


def take_quotes(instruction: str) -> tuple[str, tuple[str, ...]]:
    """(the instruction with `"0"` for what is quoted first and so on, what is quoted)."""
    quotes: list[str] = []

    def keep(match: re.Match[str]) -> str:
        quotes.append(next(group for group in match.groups() if group is not None))
        return f' "{len(quotes) - 1}" '

    text = _QUOTED.sub(keep, instruction)
    text = text.translate({0x2019: "'", 0x2018: "'", 0xA0: " ", 0x2011: "-"})
    text = re.sub(r'(?<=[^\s"])([.;!?]+)(?=[A-Za-z]{3})', r"\1 ", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip(), tuple(quotes)


def split_clauses(text: str) -> list[Clause]:
    """The clauses of an instruction without quotes, in order; courtesies alone make none."""
    text = re.sub(r"[A-Za-z]+(?:'[a-z]+)?", lambda match: _spelled(match[0]), text)
    text = _INSTEAD.sub(r"replace \1 with ", text)
    lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    clauses: list[Clause] = []
    start = 0
    for end, after in [*(match.span() for match in _JOINT.finditer(lower)), (len(lower), len(lower))]:
        clause = _bare(lower, text, start, end)
        if clause.text:
            clauses.append(clause)
        start = after
    return clauses


def _spelled(word: str) -> str:
    return word if "'" in word else words.spelled(word)


def _bare(lower: str, written: str, start: int, end: int) -> Clause:
    """The clause between two places, without courtesies before and behind it and without punctuation."""
    while start < end and lower[start] in " ,;:.!?…-\u2013—)":
        start += 1
    while (match := _COURTESY.match(lower, start, end)) is not None:
        start = match.end()
    while (match := _THANKS.search(lower[start:end])) is not None and match.start() < end - start:
        end = start + match.start()
    while end > start and lower[end - 1] in " ,;:.!?…-\u2013—":
        end -= 1
    return Clause(lower[start:end], written[start:end])
