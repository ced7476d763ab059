"""Listings of a Label Studio project's tasks: filters, pages, and their records as the server must answer them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from annotation.studio.http import StudioHttp, StudioSettings
from schemas.errors import RegionwiseError
from schemas.record import first_fault

#: Field, operator, type, value.
Filter = tuple[str, str, str, object]
RecordT = TypeVar("RecordT", bound=BaseModel)
_Thing = TypeVar("_Thing")
#: Keys or task ids asked for in one URL.
ASKED = 100
ANNOTATED: Filter = ("total_annotations", "greater", "Number", 0)
SKIPPED: Filter = ("cancelled_annotations", "greater", "Number", 0)
EMPTY: tuple[Filter, ...] = (
    ("total_annotations", "equal", "Number", 0),
    ("cancelled_annotations", "equal", "Number", 0),
)


class ListedTask(BaseModel):
    """One task of a listing."""

    model_config = ConfigDict(extra="ignore")
    id: int
    data: dict[str, Any]
    updated_at: datetime
    total_annotations: int
    cancelled_annotations: int
    annotations: list[Any] = []

    def key(self, is_ranking: bool) -> str:
        """The candidate, or of a ranking the request, that the task is about; '' where it says none."""
        found = self.data.get(key_field(is_ranking))
        return found if isinstance(found, str) else ""

    @property
    def is_empty(self) -> bool:
        """Whether nobody has answered or skipped it."""
        return not self.total_annotations and not self.cancelled_annotations


def key_field(is_ranking: bool) -> str:
    """What a task's data call its key."""
    return "request" if is_ranking else "candidate"


class Listing(BaseModel):
    model_config = ConfigDict(extra="ignore")
    total: int
    tasks: list[ListedTask]


class TaskLister:
    """Lists the tasks of one project."""

    def __init__(self, http: StudioHttp, settings: StudioSettings) -> None:
        self._http, self._settings = http, settings

    def page(
        self,
        filters: Sequence[Filter],
        *,
        either: Sequence[tuple[Filter, Filter]] = (),
        order: str = "tasks:id",
        size: int | None = None,
        included: Sequence[int] = (),
        whole: bool = False,
    ) -> Listing:
        """One page of tasks that pass all `filters`, or both of `either`; whole: with annotations. Raises: as `ask`."""
        query: dict[str, Any] = {"ordering": [order]}
        if filters:
            query["filters"] = {"conjunction": "and", "items": [_query_filter(one) for one in filters]}
        if either:
            items = [_query_filter(first) | {"child_filter": _query_filter(second)} for first, second in either]
            query["filters"] = {"conjunction": "or", "items": items}
        if included:
            query["selectedItems"] = {"all": False, "included": list(included)}
        params: dict[str, str | int] = {
            "project": self._settings.project,
            "fields": "all" if whole else "task_only",
            "resolve_uri": "false",
            "page": 1,
            "page_size": size or max(self._settings.page_tasks, len(included)),
            "query": json.dumps(query, separators=(",", ":")),
        }
        return self.get(Listing, "/api/tasks/", params)

    def every(self, filters: Sequence[Filter]) -> Iterator[ListedTask]:
        """All tasks that pass the filters, in the order of their ids."""
        after, listed = 0, list[ListedTask]()
        while not after or len(listed) == self._settings.page_tasks:
            listed = self.page([*filters, ("id", "greater", "Number", after)]).tasks
            yield from listed
            after = listed[-1].id if listed else 1

    def get(self, model: type[RecordT], path: str, params: Mapping[str, str | int] | None = None) -> RecordT:
        """What the server answers, as it must look. Raises: as `StudioHttp.ask`, and RegionwiseError otherwise."""
        answer = self._http.ask("GET", path, params)
        try:
            return model.model_validate(answer)
        except ValidationError as error:
            fault = f"answers {path} with something else: {first_fault(error)}"
            raise RegionwiseError(self._http.thing, fault, "give the URL of Label Studio itself") from None


def chunks(things: Sequence[_Thing], n: int) -> Iterator[list[_Thing]]:
    """`things` in order, `n` at a time."""
    for begin in range(0, len(things), n):
        yield list(things[begin : begin + n])


def _query_filter(one: Filter) -> dict[str, object]:
    name, operator, kind, value = one
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}


def filter_time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
