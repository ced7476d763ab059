"""A command of `regionwise` in this process: its exit code, what it prints, and the one line of one that fails."""

import json
import re
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from threading import Thread

from flows.cli import main
from tests.chaos.processes import Broken

TIMEOUT_S = 30.0
LINE_CHARS = 1_200
#: What a line must not say: an error that nobody expected, or what a library prints for its own people.
_RAW = re.compile(
    r"ended with \w+: |\[Errno|\b0x[0-9a-f]{6}|<class|object at|Traceback|pydantic|For further|codec can't"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended. out: its stdout; said: its stderr."""

    code: int
    out: str
    said: str

    def line(self) -> str:
        """The one line that says why it failed. Raises: Broken where it is none, or says it in no plain words."""
        lines = self.said.splitlines()
        if self.code not in (1, 2, 3) or len(lines) != 1 or len(lines[0]) > LINE_CHARS:
            raise Broken(f"exit code {self.code}, not one line: {self.said[-1_500:]!r}")
        told = json.loads(lines[0])
        text = f"{told['thing']}: {told['fault']}; {told['remedy']}"
        if told["code"] != self.code or not told["thing"] or not told["fault"] or _RAW.search(text):
            raise Broken(f"exit code {self.code}, not in plain words: {text}")
        return text

    def require_done(self) -> None:
        """Raises: Broken where it did not end well, or spoke of something beside."""
        if self.code or self.said:
            raise Broken(f"exit code {self.code}: {self.said[-1_500:]}")


def typed(*words: str) -> Ended:
    """Runs a command. Raises: Broken where it does not end, or ends with an error that is not the product's own."""
    out, said, ends = StringIO(), StringIO(), list[BaseException]()

    def run() -> None:
        try:
            main([*words, "--json"])
        except BaseException as error:
            ends.append(error)

    with redirect_stdout(out), redirect_stderr(said):
        thread = Thread(target=run, daemon=True)
        thread.start()
        thread.join(TIMEOUT_S)
    if not ends:
        raise Broken(f"`{words[0]}` did not end in {TIMEOUT_S:g} s")
    if not isinstance(ends[0], SystemExit):
        raise Broken(f"`{words[0]}`: a traceback: {' '.join(traceback.format_exception(ends[0])[-3:])}")
    return Ended(int(ends[0].code or 0), out.getvalue(), said.getvalue())
