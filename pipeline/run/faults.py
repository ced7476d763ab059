"""Errors that nobody expected, told with the stage, the part and the request they came from.

Errors of `schemas.errors` name their thing themselves and pass as they are. What a worker that is gone cannot say any
more, its markers do (`pipeline.run.in_flight`).
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.run.folder import part_name
from runtime.disk import FULL, told
from runtime.files import write_whole
from runtime.memory import is_out_of_memory
from schemas.errors import RegionwiseError, StageFailed

AGAIN = "start again: what is done is kept"
_NOTE = "request "


@contextmanager
def of_request(name: str) -> Iterator[None]:
    """Around a stage's work on one request: an error that nobody expected carries the request's name on."""
    try:
        yield
    except RegionwiseError:
        raise
    except Exception as error:
        error.add_note(_NOTE + name)
        raise


@contextmanager
def of_part(run: Path, stage: str, part: int) -> Iterator[None]:
    """Around one stage's work on one part. Its traceback goes into `<stage>/part-00017.error.txt` while it fails.

    Raises: StageFailed, naming stage, part and request, for an error that nobody expected.
    """
    report = run / stage / f"{part_name(part)}.error.txt"
    try:
        yield
    except RegionwiseError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise told(error) from None
        with suppress(OSError):  # the error may be that the disk is full
            write_whole(report, "".join(traceback.format_exception(error)))
        raise _failed(stage, part, error, report) from error
    report.unlink(missing_ok=True)


def _failed(stage: str, part: int, error: Exception, report: Path) -> StageFailed:
    requests = [note.removeprefix(_NOTE) for note in getattr(error, "__notes__", ()) if note.startswith(_NOTE)]
    thing = f"stage {stage}, {part_name(part)}" + (f", request {requests[0][:100]!r}" if requests else "")
    if is_out_of_memory(error):
        remedy = f"give each worker more, or the request smaller images, and {AGAIN}"
        return StageFailed(thing, "ran out of memory", remedy)
    fault = f"ended with {type(error).__name__}: {str(error)[:250]}"
    return StageFailed(thing, fault, f"see {stage}/{report.name} in the run's folder, mend it and {AGAIN}")
