"""Rules for what a thing looks like: words on it, style, another thing in its place, colour, texture, light."""

import re
from dataclasses import replace

from pipeline.requests.instructions import lexicon as words
from pipeline.requests.instructions.named import IMAGE, Named, Place
from pipeline.requests.instructions.nouns import Noun
from pipeline.requests.instructions.reading import (
    NP,
    NP1,
    NP2,
    RELATION,
    Reader,
    Rule,
    adder,
    each,
    named_thing,
    one_of,
    read_place,
    replaced,
    unarticled,
    whole_or,
)
from schemas.record import Scalar

#: The light that "brighter" and "darker" ask for, as the parameter `gain`.
BRIGHTER, DARKER = 1.6, 0.5
RULES: list[Rule] = []
_rule = adder(RULES)


# --- what only says which thing is meant


@_rule(rf"{words.LOOK_AT} {NP}")
def read_look_at(reader: Reader, match: re.Match[str]) -> list[Named] | None:
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
    rf"(?: (?P<place>(?:{RELATION}) .+?){_IN_COLOR % 2})?"
)
def _write(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    parameters: dict[str, Scalar] = {"text": reader.quotes[int(match["quote"])]}
    color = match["color1"] or match["color2"]
    if color:
        parameters["color"] = words.color_name(color)
    return _text_on(reader, match["place"], parameters)


def _text_on(reader: Reader, place: str | None, parameters: dict[str, Scalar]) -> list[Named] | None:
    where = read_place(reader, place) if place else None
    if where is None or where.anchor is None:
        return [Named(IMAGE, "change", "text", None, parameters, where=where)]
    thing = re.sub(rf"^(?:{RELATION}) ", "", place or "")
    nouns = reader.nouns(thing)
    relation = None if where.relation in ("on", "at", "in") else Place(where.relation)
    return [named_thing(noun, "text", parameters, relation) for noun in nouns] or None


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
    return each(reader.nouns(thing), "text", **parameters)


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
    return each(reader.nouns(match["np"]), "text", **parameters)


# --- the image as a whole


@_rule(
    rf"(?:increase|boost|raise|enhance|intensify|up|more|strengthen|add more|turn up|pump up|bump up"
    rf"|add) (?:the |more |some )?(?P<what>{words.QUALITY})(?: (?:of|in|to) (?P<np>.+))?"
)
def _more(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return whole_or(reader, match["np"], f"more {match['what']}")


@_rule(
    rf"(?:reduce|decrease|lower|less|weaken|turn down|drop|tone down|cut) (?:the )?"
    rf"(?P<what>{words.QUALITY})(?: (?:of|in) (?P<np>.+))?"
)
def _less(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return whole_or(reader, match["np"], f"less {match['what']}")


@_rule(
    r"(?:(?P<up>increase|boost|raise|turn up)|reduce|decrease|lower|turn down) (?:the )?(?:brightness"
    r"|exposure|light)(?: (?:of|in|on) (?P<np>.+))?"
)
def _brightness(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    nouns = reader.nouns(match["np"]) if match["np"] else [Noun(IMAGE, None)]
    return each(nouns, "relight", gain=BRIGHTER if match["up"] else DARKER)


@_rule(
    rf"(?:change|set|switch|make|turn|adjust|shift) (?:the )?{words.ATTRIBUTE}(?: of "
    rf"(?:{words.WHOLE}))? (?:from .+ )?(?:to|into|be)(?: be)? (?P<what>.+)"
)
def _attribute(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return whole_or(reader, None, unarticled(match["what"]))


@_rule(
    rf"(?:add|apply|use|put|give it) (?:a |an |the |some |more )?(?P<what>{words.EFFECT}|.+ (?:filter"
    rf"|effect|style|vibe|overlay|look|color grade|color grading|tone))(?: (?:to|on|over) (?P<np>.+))?"
)
def _effect(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return whole_or(reader, match["np"], match["what"])


@_rule(r"(?:make it|let it|have it) (?P<what>rain|snow|be .+)")
def _weather(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return whole_or(reader, None, re.sub("^be ", "", match["what"]))


@_rule(
    rf"(?:redraw|render|recreate|repaint|reimagine|restyle|stylize|stylise|draw|convert|turn|make"
    rf"|paint|show|edit|transform|put) {NP} (?P<what>(?:in (?:the |a |an )?(?:style|manner) of|in .+"
    rf" style|as if|like) ?.*)"
)
def _style(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return whole_or(reader, re.sub(r" (?:look|appear|to look)$", "", match["np"]), match["what"])


# --- replacing


@_rule(
    r"(?:put|add|place|insert|use|draw|have) (?P<new>.+?) (?:(?:in|at|into) (?:its|his|her|their|that"
    r"|the same) (?:place|spot|position)|there|instead|where (?:it|they|he|she) (?:is|was|are|were))"
)
def _in_its_place(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    if not reader.targets or reader.targets[-1].operation != "remove":
        return None
    gone = reader.targets.pop()
    return replaced(reader, [Noun(gone.label, gone.phrase, gone.excluded, gone.of)], match["new"])


@_rule(
    rf"(?:put|place|use|add|insert|draw|show) (?P<new>.+?) (?:(?:instead|in place|in the place|in"
    rf" lieu) of {NP}|where {NP2} (?:is|are|was|were|stands|sits))"
)
def _instead_of(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return replaced(reader, reader.nouns(match["np"] or match["np2"]), match["new"])


@_rule(
    rf"{words.REPLACE}(?: out)? {NP} (?:with|for|by|to|into) (?P<new>.+)",
    rf"change {NP} (?:for|with) (?P<new>.+)",
)
def _replace(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return replaced(reader, reader.nouns(match["np"]), match["new"])


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
        return each(reader.nouns(match["np"]), "recolour")
    color = words.color_name(match["color"])
    last = reader.targets[-1] if reader.targets else None
    if match["np"] in ("it", "them") and last is not None and last.operation in ("insert", "replace"):
        reader.targets[-1] = replace(last, parameters={"color": color, **last.parameters})
        return []
    nouns = reader.nouns(match["np"])
    if color == "black and white" and nouns and nouns[0].phrase is None:
        return each(nouns, "other", change=color)
    return each(nouns, "recolour", color=color)


@_rule(rf"(?:change|alter) (?:the )?colou?rs? of {NP}")
def _some_colour(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return each(reader.nouns(match["np"]), "recolour")


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
        return each(reader.nouns(match["np"]), "texture")
    return each(reader.nouns(match["np"]), "texture", texture=words.texture_name(said))


# --- light and sharpness


@_rule(
    rf"{words.BRIGHTEN} {NP}(?: up)?|(?:make|turn|get) {NP1} {words.DEGREE}(?:brighter|lighter|bright)"
    rf"|put {NP2} in (?:brighter light|the light|more light)"
)
def _brighten(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return each(reader.nouns(one_of(match)), "relight", gain=BRIGHTER)


@_rule(
    rf"{words.DARKEN} {NP}(?: down)?|(?:make|turn|get) {NP1} {words.DEGREE}(?:darker|dimmer|dark)|put"
    rf" {NP2} in (?:the |more )?(?:shade|shadow|dark)"
)
def _darken(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return each(reader.nouns(one_of(match)), "relight", gain=DARKER)


@_rule(
    rf"put {NP} out of focus|(?:make|turn|get) {NP1} {words.DEGREE}(?:more )?(?:blurry|blurred"
    rf"|blurrier|out of focus|unfocused)|{words.BLUR} (?:out )?{NP2}(?: until .+)?(?: out)?"
)
def _blur(reader: Reader, match: re.Match[str]) -> list[Named] | None:
    return each(reader.nouns(one_of(match)), "blur")
