"""Requests for another view of the whole image: a crop, a zoom, a turn, a mirror image, another camera.

What they change is where everything lies, so nothing of it is undone in their candidates.
"""

import re

from schemas.request import EditRequest

#: An author's own name of the edit that says it.
_EDIT_TYPES = re.compile(
    r"crop|zoom|rotat|flip|mirror|outpaint|uncrop|viewpoint|camera|perspective|view_?(change|synthesis)", re.IGNORECASE
)
_WHOLE = (
    r"(the |this |that |my |our |whole |entire |complete |full )*"
    r"(image|picture|photo(graph)?|pic|shot|frame|canvas|scene|view|composition|everything|background|it|this)\b"
)
_WAYS = r"(horizontal(ly)?|vertical(ly)?|left[- ]to[- ]right|upside[- ]down|sideways|(counter-?|anti-?)?clockwise)"
_DEGREES = r"\d+(\.\d+)? ?(°|deg(ree)?s?\b)"
_SAYS_SO = re.compile(
    "|".join(
        (
            r"\b(zoom(ed|ing)?|pan(ned|ning)?)\b",
            r"\b(un)?crop(ped|ping)?\b",
            r"\boutpaint",
            rf"\b(flip|mirror|rotate|turn|tilt|straighten|level|skew|shear|shift|move|slide)(ped|ing|d)? {_WHOLE}",
            rf"^(please )?(flip|mirror|rotate|turn) ({_WAYS}|{_DEGREES}|by {_DEGREES})",
            rf"\b(extend|expand|widen|enlarge) {_WHOLE}",
            r"\b(move|tilt|turn|rotate|pan|orbit|swing|raise|lower|pull|push|dolly)(ed|ing|s)? (the |our )?camera\b",
            r"\bcamera (angle|view|position|height|moves?|pans?|zooms?|tilts?|turns?|orbits?)\b",
            r"\b(viewpoint|vantage point|point of view|viewing angle|field of view|another perspective)\b",
            r"\b(bird'?s|worm'?s)[- ]eye\b",
            r"\b(top[- ]down|aerial|wide[- ]angle|eye[- ]level|low[- ]angle) (view|shot)\b",
            r"\bclose[- ]?up (view|shot|of)\b",
            r"\b(from|seen from) (above|below|behind|the (side|front|back|left|right|top|air))\b",
            r"\bmirror(ed)? image of (the|this)\b",
        )
    ),
    re.IGNORECASE,
)


def asks_for_another_frame(request: EditRequest) -> bool:
    """Whether a request asks that its candidates show the whole from elsewhere, larger, turned or mirrored."""
    texts = (request.instruction, *request.turns)
    return bool(_EDIT_TYPES.search(request.edit_type)) or any(_SAYS_SO.search(text) for text in texts)
