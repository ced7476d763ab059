"""What became of one strike."""

from dataclasses import dataclass

RIGHT, AS_WRITTEN, REJECT, ONE_LINE, FINDING = "right", "as written", "reject", "one line", "finding"
#: The best first; of several bent items the worst counts.
OUTCOMES = (RIGHT, AS_WRITTEN, REJECT, ONE_LINE, FINDING)


@dataclass(frozen=True)
class Struck:
    """What became of the bent item.

    what: the place that was bent. outcome: `right` for the same bytes, `as written` for a row that says what is
    written now, `reject` with its reason, `one line` for a file that is refused whole. said: in words.
    """

    what: str
    outcome: str
    said: str = ""
