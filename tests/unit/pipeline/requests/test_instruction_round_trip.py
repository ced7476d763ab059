"""What the templates say is read back as what they were told to say."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.editors.shapes import COLOURS, SHAPES
from pipeline.requests.instructions import Named, instruction_for, parse_instruction
from pipeline.requests.instructions.rules_looks import BRIGHTER, DARKER
from schemas.request import Target

NOUNS = (
    "cup",
    "square",
    "disc",
    "dog",
    "window",
    "wooden chair",
    "street lamp",
    "man in the suit",
    "glass of water",
    "bus",
)
POSITIONS = ("", "", "left ", "second ", "top ", "biggest ")
PATTERNS = ("stripes", "checker", "dots", "waves", "bricks", "noise")
ELSEWHERE = {"right": (70, 40, 80, 50), "left": (0, 40, 10, 50), "up": (40, 0, 50, 10), "down right": (80, 80, 90, 90)}
LABELS = st.builds(
    lambda p, c, n: p + c + n,
    st.sampled_from(POSITIONS),
    st.sampled_from(("", "red ", "light gray ")),
    st.sampled_from(NOUNS),
)
HERE = (40, 40, 50, 50)


def change(operation: str, label: str, parameters: dict[str, object], **fields: object) -> Target:
    role = {"remove": "remove", "insert": "add"}.get(operation, "change")
    return Target.model_validate(
        {"label": label, "role": role, "operation": operation, "parameters": parameters, "box": HERE, **fields}
    )


@st.composite
def targets(draw: st.DrawFn) -> tuple[Target, dict[str, object]]:
    """A target, and the parameters that its words say."""
    color, shape = draw(st.sampled_from(sorted(COLOURS))), draw(st.sampled_from(SHAPES))
    label = draw(LABELS)
    kind = draw(
        st.sampled_from(
            ["recolour", "remove", "replace", "insert", "texture", "blur", "relight", "move", "resize", "text"]
        )
    )
    if kind == "recolour":
        return change(kind, label, {"color": color}), {"color": color}
    if kind == "replace":
        return change(kind, label, {"color": color, "shape": shape}), {"color": color, "shape": shape}
    if kind == "insert":
        return change(kind, f"{color} {shape}", {}), {"color": color, "shape": shape}
    if kind == "texture":
        texture = draw(st.sampled_from(PATTERNS))
        return change(kind, label, {"texture": texture}), {"texture": texture}
    if kind == "relight":
        gain = draw(st.sampled_from([0.4, 0.6, 1.5, 1.8]))
        return change(kind, label, {"gain": gain}), {"gain": BRIGHTER if gain > 1 else DARKER}
    if kind == "move":
        way = draw(st.sampled_from(sorted(ELSEWHERE)))
        return change(kind, label, {}, destination=ELSEWHERE[way]), {"way": way}
    if kind == "resize":
        size = draw(st.sampled_from(["bigger", "smaller"]))
        destination = (30, 30, 60, 60) if size == "bigger" else (43, 43, 47, 47)
        return change(kind, label, {}, destination=destination), {"size": size}
    if kind == "text":
        said: dict[str, object] = {"text": draw(st.sampled_from(["SALE", "remove the cup", "A & B, and make it red."]))}
        said |= {"color": color} if draw(st.booleans()) else {}
        return change(kind, label, dict(said)), said
    return change(kind, label, {}), {}


@given(asked=st.lists(targets(), min_size=1, max_size=4), wording=st.integers(0, 50), sized=st.booleans())
def test_what_the_templates_say_is_read_back(
    asked: list[tuple[Target, dict[str, object]]], wording: int, sized: bool
) -> None:
    text = instruction_for([target for target, _ in asked], (100, 100) if sized else None, wording)
    parsed = parse_instruction(text)
    assert parsed.unread == (), text
    assert [_said(named) for named in parsed.targets] == [
        (target.label, target.role, target.operation, parameters) for target, parameters in asked
    ], text


def _said(named: Named) -> tuple[str, str, str, dict[str, object]]:
    return named.label, named.role, named.operation, dict(named.parameters)
