"""The words that edit instructions are made of: verbs, colours, materials, places; spelling; singulars.

English only. Whether a word is English and what its singular is comes from simplemma's dictionary, which lies in its
wheel. Patterns here are pieces of regular expressions over lower-case text.
"""

import re
from functools import lru_cache

import simplemma

_SHADES = (
    "light|dark|bright|deep|pale|neon|pastel|hot|sky|royal|navy|forest|lime|mint|baby|ruby|lemon|emerald|olive|brick"
    "|burnt|dusty|electric|metallic|matte|off|midnight|ocean|vivid|warm|cool|soft"
)
_COLORS = (
    "red|orange|yellow|green|cyan|blue|purple|pink|brown|white|black|gray|grey|gold|golden|silver|beige|turquoise|teal"
    "|navy|maroon|magenta|violet|crimson|scarlet|ivory|cream|tan|khaki|lavender|olive|burgundy|coral|lilac|indigo|peach"
    "|aqua|amber|charcoal|mauve|fuchsia|lime|mint|blonde|blond|brunette|ginger|auburn|salmon|mustard|bronze-colored"
)
COLOR = rf"(?:(?:black and white)|(?:(?:{_SHADES})[ -])*(?:{_COLORS}))"

#: What a surface can be made of or covered with, as said -> the value of the parameter `texture`.
TEXTURES = {
    "striped": "stripes",
    "stripes": "stripes",
    "checkered": "checker",
    "checkerboard": "checker",
    "checker": "checker",
    "checks": "checker",
    "polka dots": "dots",
    "polka dot": "dots",
    "dotted": "dots",
    "dots": "dots",
    "wavy": "waves",
    "brick": "bricks",
    "speckles": "noise",
    "wooden": "wood",
    "metallic": "metal",
    "stone": "stone",
    "woolen": "wool",
}
_MATERIALS = (
    "wood|leather|marble|glass|metal|steel|stone|bricks|bronze|copper|brass|plaid|velvet|denim|concrete|plastic|rubber"
    "|paper|ice|chrome|fur|silk|wool|cotton|linen|ceramic|porcelain|bamboo|granite|crystal|clay|lace|floral|tartan"
    "|waves|noise|rattan|wicker|suede|terracotta|sandstone|aluminum|iron|cardboard|camouflage|leopard print|zebra print"
)
TEXTURE = "(?:" + "|".join(sorted([*TEXTURES, *_MATERIALS.split("|")], key=len, reverse=True)) + ")"

#: What is asked of the image as a whole although it is said like a thing.
WHOLE = (
    r"(?:the |this |that |my |our )?(?:(?:whole|entire|full|complete|overall|old|original|vintage) )?"
    r"(?:image|picture|photo|photograph|pic|scene|shot|frame|snapshot|selfie)"
)
EFFECT = r"(?:rain|snow|fog|mist|haze|film grain|grain|vignette|lens flare|sunlight|snowfall|rainfall|falling snow)"
ATTRIBUTE = (
    r"(?:season|weather|time of day|time|mood|style|art style|lighting|atmosphere|tone|color scheme|color palette|era)"
)
QUALITY = r"(?:contrast|saturation|sharpness|vibrance|warmth|temperature|color temperature|clarity|vibrancy|highlights)"
#: Words that ask for no change that anybody could check.
VAGUE = (
    r"(?:(?:much|more|a bit|a little|really|very|so|look|looks|way|even) )*"
    r"(?:better|nice|nicer|good|cool|cooler|great|awesome|pretty|prettier|beautiful|amazing|perfect|best|fun|funny"
    r"|interesting|more|professional)"
)

REMOVE = (
    r"(?:remove|delete|erase|eliminate|get rid of|take away|take out|cut out|crop out|wipe out|wipe off|edit out|clear"
    r"|clear away|hide|discard|clean up|drop|rub out|strip|lose|omit)"
)
INSERT = r"(?:add|insert|place|put|draw|include|hang|stick|attach|introduce|create|paste|generate|set|show)"
REPLACE = r"(?:replace|swap|swap out|substitute|exchange|switch|switch out|trade)"
TURN = r"(?:turn|transform|convert|change|morph|make|switch|set)"
PAINT = r"(?:paint|repaint|recolou?r|colou?r|dye|tint|turn|make|change|spray|spray paint|colorize|shade|set|switch)"
TEXT = r"(?:write|print|engrave|put|add|paint|place|insert|draw|carve|stamp|type|display|show|stencil|embroider)"
COVER = r"(?:cover|fill|decorate|wrap|coat|texture|overlay)"
MOVE = r"(?:move|shift|slide|reposition|relocate|push|drag|nudge|bring|pull|put|place|transfer)"
GROW = r"(?:enlarge|grow|magnify|expand|scale up|upscale|increase the size of|blow up|widen|lengthen)"
SHRINK = r"(?:shrink|scale down|downscale|reduce the size of|decrease the size of|minimi[sz]e|downsize|shorten)"
BLUR = r"(?:blur out|blur|defocus|soften|pixelate)"
BRIGHTEN = r"(?:brighten up|brighten|lighten up|lighten|light up|illuminate)"
DARKEN = r"(?:darken|dim|shade)"
KEEP = r"(?:keep|preserve|maintain|retain|leave)"
NOT = r"(?:don't|dont|do not|never|without|avoid|but not)"
#: Verbs whose clause only says which thing is meant.
LOOK_AT = r"(?:see|find|look at|take|select|pick|choose|locate|identify|consider|there is|there's|there are)"
_OTHER = (
    "open|close|shut|rotate|flip|tilt|turn on|turn off|switch on|switch off|straighten|sharpen|clean|wash|fold|bend"
    "|stretch|fix|repair|restore|mirror|lift|raise|lower|break|melt|freeze|smooth|polish|trim|cut"
    "|comb|highlight|outline"
    "|apply|use|increase|decrease|boost|reduce|lower|enhance|improve|redraw|render|recreate|restyle|give|dress|edit"
    "|modify|adjust|alter|crop|zoom in on|zoom in to|zoom in|zoom out|focus on|bend|light|age"
    "|animate|colorize|stylize|reimagine|stylise|let|have|empty|invert"
    "|lay|split|tie|undo|unfold|replicate|duplicate|clone|adorn|surround|complete|extend|relight|update|style|design"
)
OTHER = "(?:" + "|".join(sorted(set(_OTHER.split("|")), key=len, reverse=True)) + ")"
_ACTS = (REMOVE, INSERT, REPLACE, TURN, PAINT, TEXT, COVER, MOVE, GROW, SHRINK, BLUR, BRIGHTEN, DARKEN)
VERB = "(?:" + "|".join((*_ACTS, KEEP, NOT, LOOK_AT, OTHER)) + ")"

#: Preposition as said -> the relation of a place.
RELATIONS = {
    "to the left of": "left of",
    "on the left of": "left of",
    "left of": "left of",
    "to the right of": "right of",
    "on the right of": "right of",
    "right of": "right of",
    "on the left side of": "left of",
    "on the right side of": "right of",
    "in front of": "in front of",
    "on top of": "on",
    "next to": "near",
    "close to": "near",
    "closer to": "near",
    "nearer to": "near",
    "beside": "near",
    "near": "near",
    "alongside": "near",
    "by": "near",
    "underneath": "under",
    "beneath": "under",
    "below": "under",
    "under": "under",
    "above": "above",
    "over": "above",
    "behind": "behind",
    "around": "around",
    "between": "between",
    "inside": "in",
    "into": "in",
    "in": "in",
    "onto": "on",
    "on": "on",
    "across": "on",
    "at": "at",
    "to": "at",
}
RELATION = "(?:" + "|".join(sorted(RELATIONS, key=len, reverse=True)) + ")"
#: Where a noun's modifier begins.
MODIFIER = (
    r"(?: (?:of|with|in|on|at|behind|under|near|beside|above|below|between|beneath|inside|against"
    r"|around|from|by|next to"
    r"|to the|wearing|holding|sitting|standing|lying|riding|made|that|who|which|full|next|over|for|carrying|walking"
    r"|playing|sleeping|running|reading|without|along|hanging|parked|facing|covered|filled)\b)"
)
WEAR = (
    r"(?:\w*(?:suit|dress|hat|shirt|jacket|coat|hoodie|vest|skirt)|uniform|costume|sweater|tuxedo|cap"
    r"|helmet|robe|jeans|gown|outfit|bikini|sari|kimono)"
)

#: Position word -> position.
POSITIONS = {
    "left": "left", "leftmost": "left", "left-most": "left", "left-hand": "left", "far left": "left",
    "right": "right", "rightmost": "right", "right-most": "right", "right-hand": "right", "far right": "right",
    "top": "top", "upper": "top", "topmost": "top", "uppermost": "top",
    "bottom": "bottom", "lower": "bottom", "bottommost": "bottom", "lowest": "bottom", "highest": "top",
    "middle": "middle", "center": "middle", "centre": "middle", "central": "middle", "centermost": "middle",
    "front": "front", "closest": "front", "nearest": "front", "frontmost": "front",
    "back": "back", "rear": "back", "farthest": "back", "furthest": "back",
    "largest": "largest", "biggest": "largest", "tallest": "largest", "smallest": "smallest", "tiniest": "smallest",
    "shortest": "smallest", "last": "right",
    "top left": "top left", "upper left": "top left", "top-left": "top left", "upper-left": "top left",
    "top right": "top right", "upper right": "top right", "top-right": "top right", "upper-right": "top right",
    "bottom left": "bottom left", "lower left": "bottom left", "bottom-left": "bottom left",
    "lower-left": "bottom left", "bottom right": "bottom right", "lower right": "bottom right",
    "bottom-right": "bottom right", "lower-right": "bottom right",
}  # fmt: skip
POSITION = "(?:" + "|".join(sorted(POSITIONS, key=len, reverse=True)) + ")"
_ORDINALS = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth".split("|")
ORDINAL = "(?:" + "|".join(_ORDINALS) + r"|\d{1,2}(?:st|nd|rd|th))"
_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve".split("|")
NUMBER = "(?:" + "|".join(_NUMBERS) + r"|\d{1,3}|a couple of|a pair of)"

BIGGER = r"(?:bigger|larger|taller|wider|longer|thicker|higher|huge|giant|fatter|big|large|tall|wide|long|high)"
SMALLER = r"(?:smaller|shorter|narrower|thinner|tinier|tiny|slimmer|small)"
DEGREE = (
    r"(?:(?:a bit|a little|a lot|a little bit|much|slightly|somewhat|way|even|far|twice as|two times|double|\d+ ?%|\d+x"
    r"|\d+ times|significantly|noticeably|very|really|all|completely|entirely|look|appear|more) )*"
)
#: A unit that only exists in pairs, or a mass: the plural form is one thing.
_ONE_IN_PLURAL = frozenset(
    "sunglasses glasses pants jeans trousers shorts scissors clothes headphones binoculars pajamas leggings tights"
    " goggles news tongs pliers overalls".split()
)
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "leaves": "leaf", "oxen": "ox", "stairs": "stair", "policemen": "policeman",
    "firemen": "fireman", "snowmen": "snowman", "fishermen": "fisherman", "clothes": "clothes", "cacti": "cactus",
}  # fmt: skip
_ENGLISH = frozenset(
    "the an of to and with it its is this that these those my your his her their at from into for make turn"
    " change remove add put replace what where who how hello hi thanks thank you please all everything image picture"
    " photo some can could would not but by so".split()
)
_FOREIGN = frozenset(
    "la le les del al y à au aux les des du une un der das die den dem ein eine einen ist und el los"
    " las una uno que il lo gli della dalla"
    " dello sul nel alla con por para em os och att ett som het een van op met de en est dans sur pour"
    " rouge rot rojo bitte ve bir ke yang w na jest mach mache ändere entferne".split()
)
_CORRECTABLE = (
    "remove delete erase replace change paint recolor color colour insert brighten darken blur enlarge shrink move"
    " please could would background picture image photo bigger smaller brighter darker yellow orange purple brown green"
    " white black with into left right except everything middle bottom the and make turn swap write rotate"
).split()


def ordinal_number(word: str) -> int:
    """1 for "first" or "1st"."""
    return _ORDINALS.index(word) + 1 if word in _ORDINALS else int(re.sub(r"\D", "", word))


def number(word: str) -> int:
    """2 for "two", "2" or "a couple of"."""
    if word in _NUMBERS:
        return _NUMBERS.index(word) + 1
    return int(word) if word.isdecimal() else 2


def texture_name(said: str) -> str:
    """The value of the parameter `texture` for what was said: "dots" for "polka dots"."""
    said = re.sub(r"^(?:a|an|the|some) ", "", said)
    return TEXTURES.get(said, said)


def color_name(said: str) -> str:
    """The value of the parameter `color`: single spaces, American "gray"."""
    return re.sub(r"\bgrey\b", "gray", said.replace("-", " "))


@lru_cache(maxsize=4096)
def singular(noun: str) -> str | None:
    """The singular of a plural noun (one word, lower case), None where it is none."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun] if _IRREGULAR[noun] != noun else None
    if len(noun) < 4 or not noun.endswith("s") or noun.endswith(("ss", "us", "is")) or noun in _ONE_IN_PLURAL:
        return None
    lemma = simplemma.lemmatize(noun, lang="en")
    if lemma != noun:
        return lemma
    return None if is_word(noun) else noun[:-1]


@lru_cache(maxsize=4096)
def is_word(word: str) -> bool:
    """Whether a word (lower case) is in the English dictionary."""
    return bool(simplemma.is_known(word, lang="en"))


@lru_cache(maxsize=4096)
def base_form(verb: str) -> str:
    """remove for "removing" or "removed"; the word itself where it is no form of a verb."""
    return str(simplemma.lemmatize(verb, lang="en"))


@lru_cache(maxsize=4096)
def spelled(word: str) -> str:
    """The word of instructions that `word` is one slip of the keyboard away from; `word` where there is none."""
    lower = word.lower()
    if len(lower) < 3 or not lower.isascii() or not lower.isalpha() or lower in _CORRECTABLE or is_word(lower):
        return word
    near = [known for known in _CORRECTABLE if _one_slip(lower, known)]
    return near[0] if near else word


def _one_slip(word: str, known: str) -> bool:
    """Whether one letter more, less or other, or two neighbours changed over, makes `known` of `word`."""
    if len(known) < 4 and len(word) != len(known):
        return False
    start = 0
    while start < min(len(word), len(known)) and word[start] == known[start]:
        start += 1
    ours, theirs = word[start:], known[start:]
    if len(ours) > 1 and len(theirs) > 1 and ours[1::-1] == theirs[:2] and ours[2:] == theirs[2:]:
        return True
    other_letter = len(known) > 4 and ours[1:] == theirs[1:]
    return other_letter or ours[1:] == theirs or ours == theirs[1:]


def looks_english(text: str) -> bool:
    """Whether `text` (without what is quoted in it) is English: its script, and which small words it is made of."""
    letters = [character for character in text if character.isalpha()]
    if sum("a" <= c.lower() <= "z" or "\u00c0" <= c <= "\u024f" for c in letters) * 2 < len(letters):
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    english, foreign = (sum(word in known for word in words) for known in (_ENGLISH, _FOREIGN))
    return foreign <= english and (english > 0 or sum(map(is_word, words)) * 3 >= len(words) * 2)


def looks_foreign(text: str) -> bool:
    """Whether nothing in `text` is surely English and not every word of it is in the dictionary."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return not any(word in _ENGLISH for word in words) and not all(map(is_word, words))
