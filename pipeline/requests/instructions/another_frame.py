"""Requests for another view of the whole image: a crop, a zoom, a turn, a mirror image, another camera.

What they change is where everything lies, so nothing of it is undone in their candidates.
"""

import re

from schemas.request import EditRequest

#: An author's own name of the edit that says it.
_EDIT_TYPES = re.compile(
    r"crop|zoom|rotat|flip|mirror|outpaint|reframe|viewpoint|camera|perspective|view_?(change|synthesis)", re.IGNORECASE
)
_WHOLE = (
    r"(?:(?:the|this|that|my|our|whole|entire|complete|full|crooked) )*"
    r"(?:(?:image|picture|photo(?:graph)?|pic|shot|frame|canvas|scene|view|composition|drawing|everything|it)\b"
    r"|this\b(?! (?:image|pic|photo|shot|scene|view|drawing)))"
)
_NOT_INTO = r"(?! *(?:(?:in)?to|as|like|red|blue|green|black|white|gr[ae]y|dark|light|bright)\b)"
_ADVERBS = r"(?:please|pls|now|just|then|and|can you|could you|slightly|gently)"
_BEGIN = rf"(?:^|[.;:,!] *|\b{_ADVERBS} )"
_WAYS = (
    r"(?:horizontal(?:ly)?|vertical(?:ly)?|left[- ]to[- ]right|upside[- ]down|sideways|(?:counter-?|anti-?)?clockwise)"
)
_DEGREES = r"\d+(?:\.\d+)? ?(?:°|deg)"
_SIDE = r"(?:top|bottom|left|right|edges?|sides?|borders?|margins?|upper|lower)"
_PLACE = (
    r"(?:above|below|behind|up|afar"
    r"|the (?:other )?(?:side|front|back|left|right|top|air|ground|sky|ceiling|floor|door\w*))\b"
)

_SAYS_SO = re.compile(
    "|".join(
        (
            # crop, zoom, pan
            r"\bzo+m(?:ed|ing)? ?(?:it |this |the \w+ |way |back |slightly |a (?:bit|little) )*"
            r"(?:in|out|into|onto?|closer)\b",
            rf"{_BEGIN}(?:un|re|out)?crop\b",
            rf"\b(?:un|re)?crop(?:ped|ping)? (?:{_WHOLE}|(?:out|off|away|in|to|tight|around|closer|down)\b)",
            r"\b(?:recropping|recompose|reframe|outpaint\w*|uncrop)\b",
            rf"{_BEGIN}pan\b|\bpan (?:the camera|left|right|up|down|across)\b",
            rf"\b(?:trim|cut|chop)(?: off| away)? (?:the )?{_SIDE}\b.*\b(?:{_WHOLE}|third|half|quarter|off|so)",
            rf"\bcut off the {_SIDE}",
            # the whole turned, mirrored, moved, made larger or smaller
            rf"\b(?:flip|mirror|rotate|turn|tilt|skew|shear|shift|slide)(?:ped|ing|d)? {_WHOLE}{_NOT_INTO}",
            rf"\b(?:straighten|level|shrink|downsize|scale(?: down| up)?|widen|extend|expand|enlarge) {_WHOLE}",
            rf"\b(?:extend|expand|widen) (?:the )?background\b.*\b{_SIDE}",
            rf"{_BEGIN}(?:flip|mirror|rotate|turn) (?:by )?(?:{_WAYS}|{_DEGREES})",
            r"\b(?:straighten|level)\b.*\bhorizon|\bhorizon\b.*\b(?:straight|level)",
            rf"\bcrooked {_WHOLE}|{_WHOLE} upside[- ]down",
            rf"\bmirror(?:ed)? (?:image|version) of {_WHOLE}",
            rf"\b{_WHOLE} (?:wider|taller|larger|bigger) (?:on|at|to|by|than)\b",
            rf"\b(?:put|place|centre|center) {_WHOLE} (?:\w+ )*(?:border|page|background|canvas|middle)\b",
            rf"\bmore (?:space|room|sky|background|headroom) (?:\w+ )*(?:above|below|around|{_SIDE})\b",
            r"\b\d+:\d+\b|\b(?:square|portrait|landscape|vertical|wide\w*) (?:format|orientation|aspect|crop)\b",
            # another camera
            r"\b(?:move|tilt|turn|rotate|pan|orbit|swing|raise|lower|pull|push|dolly)\w*"
            r"(?: back| up| down)? (?:the |our )?camera\b",
            r"\bcamera (?:angle|view|position|height|moves?|pans?|zooms?|tilts?|turns?|orbits?|back|closer)\b",
            r"\b(?:viewpoint|vantage point|point of view|viewing angle|field of view|pov)\b",
            r"\b(?:another|different|new|correct the|fix the|drone'?s?) (?:perspective|angle|view)\b",
            r"\b(?:bird|worm)(?:'?s)?[- ]eye\b|\bfish-?eye\b|\bflat lay\b",
            r"\bthrough the eyes of\b|\bover the shoulder\b",
            r"\b(?:top[- ]down|aerial|wide[- ]angle|eye[- ]level|(?:low|high|dutch)[- ]angle|isometric|panoramic|macro)"
            r" (?:view|shot|angle|photo|perspective|image)\b|\bdutch angle\b",
            r"\b(?:side|front|rear|back|profile|three[- ]quarters?|(?:first|third)[- ]person|full[- ]body)[- ]view\b",
            r"\b(?:an?|into|extreme) (?:\w+ )?close[- ]?up\b|\bclose[- ]?up (?:view|shot|of)\b",
            r"\b(?:seen|viewed|shot|taken|photographed|view|look(?:ing|ed)?|show\w*|see|picture|photo|drawn)\b"
            rf".*\bfrom {_PLACE}",
            r"\bfrom (?:more )?(?:far(?:ther|ther)? away|further (?:away|back)|closer|a distance|a different \w+)\b",
            r"\bshow (?:me )?(?:the |its )?(?:back|other side|rear|underside) of (?:the|this)\b",
        )
    ),
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:don'?t|do not|without|no|not|never)\b[^.;]*\b(?:crop|zoom|rotat|flip|mirror|tilt|turn)\w*", re.IGNORECASE
)


def asks_for_another_frame(request: EditRequest) -> bool:
    """Whether a request asks that its candidates show the whole from elsewhere, larger, turned or mirrored."""
    return bool(_EDIT_TYPES.search(request.edit_type)) or any(map(says_so, (request.instruction, *request.turns)))


def says_so(text: str) -> bool:
    """Whether an instruction asks for it."""
    return _SAYS_SO.search(_DENIED.sub(" ", text)) is not None
