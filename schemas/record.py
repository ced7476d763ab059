"""The base of every record, and the schema versions that documents carry.

A *document* is a record that stands alone in a file or a tar member and so carries `schema: name/version`.
An older document is upgraded step by step through `UPGRADES`; a newer one is refused by name.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from schemas.errors import BadInput, NewerSchema

ID_HEX_DIGITS = 16
Id = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{ID_HEX_DIGITS}}}$", description="16 hex digits")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 in hex")]
Scalar = str | int | float | bool | None

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
#: (schema name, version found) -> function that returns the same document one version later.
UPGRADES: dict[tuple[str, int], Upgrade] = {}


R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Record):
    """A record that stands alone and carries `schema: name/version`."""

    schema_name: ClassVar[str]
    schema_version: ClassVar[int] = 1

    @model_validator(mode="before")
    @classmethod
    def _without_schema(cls, data: Any) -> Any:
        """Takes the `schema` off a document inside a document, which must be of the current version."""
        if not isinstance(data, dict) or "schema" not in data:
            return data
        expected = f"{cls.schema_name}/{cls.schema_version}"
        if data["schema"] != expected:
            raise ValueError(f"schema is {str(data['schema'])[:80]!r}, expected {expected}")
        return {name: value for name, value in data.items() if name != "schema"}

    @model_serializer(mode="wrap")
    def _with_schema(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"schema": f"{self.schema_name}/{self.schema_version}", **handler(self)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, thing: str) -> Self:
        """The record in `document`, upgraded if it is older; without a `schema` it is taken as current.

        Raises: NewerSchema for a later version, BadInput for anything else that does not fit; both name `thing`.
        """
        fields = _current(cls, dict(document), thing)
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise BadInput(
                thing, first_fault(error, cls.model_fields), f"make it fit docs/schemas/{cls.schema_name}.json"
            ) from None

    @classmethod
    def from_json(cls, text: str | bytes, *, thing: str) -> Self:
        """As `from_document`, from JSON text."""
        try:
            text = text if isinstance(text, str) else text.decode()  # else other encodings of Unicode would be taken
            document = json.loads(text, object_pairs_hook=_named_once)
        except UnicodeDecodeError:
            raise BadInput(thing, "is not JSON: it has bytes that are no UTF-8 text", "write it anew") from None
        except (ValueError, RecursionError, TypeError) as error:
            raise BadInput(thing, f"is not JSON: {error}", "write it anew") from None
        if not isinstance(document, dict):
            raise BadInput(thing, "is JSON but not an object", f"write an object of {cls.schema_name}")
        return cls.from_document(document, thing=thing)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a field that it names twice one reader takes the first value, another the last."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise ValueError(f"it names the field {twice[:80]!r} twice")
    return fields


def _current(cls: type[Document], fields: dict[str, Any], thing: str) -> dict[str, Any]:
    name, _, number = str(fields.pop("schema", f"{cls.schema_name}/{cls.schema_version}")).partition("/")
    if name != cls.schema_name or not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise BadInput(
            thing,
            f"says schema {name[:80]!r}/{number[:20]!r}, expected {cls.schema_name}/{cls.schema_version}",
            "give a document of that schema",
        )
    version = int(number)
    if version > cls.schema_version:
        raise NewerSchema(thing, f"has schema {name}/{version}; this version reads up to {name}/{cls.schema_version}")
    while version < cls.schema_version:
        upgrade = UPGRADES.get((name, version))
        if upgrade is None:
            raise BadInput(thing, f"has schema {name}/{version}, which has no upgrade", "export it anew")
        fields, version = upgrade(fields), version + 1
    return fields


def other_value(document: Any, record: Any, place: str = "") -> str | None:
    """Where a document says another value than the record that was read from it, such as "7" for 7; fields that only
    one of them has are no difference, as in documents of an earlier version."""
    if isinstance(document, dict) and isinstance(record, dict):
        shared = [(f"{place}.{name}", document[name], record[name]) for name in document if name in record]
    elif isinstance(document, list) and isinstance(record, list) and len(document) == len(record):
        shared = [(f"{place}.{n}", *pair) for n, pair in enumerate(zip(document, record, strict=True))]
    else:
        same = document == record and isinstance(document, bool) == isinstance(record, bool)
        return None if same else place.removeprefix(".")
    return next((found for name, one, other in shared if (found := other_value(one, other, name))), None)


def ordered_faults(error: ValidationError) -> list[ErrorDetails]:
    """The faults of a validation error, fields that are not known first: one that is missing is often one of them."""
    faults = error.errors(include_url=False, include_input=False)
    return sorted(faults, key=lambda fault: fault["type"] != "extra_forbidden")


def first_fault(error: ValidationError, known: Iterable[str] = ()) -> str:
    """The first fault of a validation error as `field: what is wrong`, on one line of at most 300 characters.

    known: the fields that there are; of an unknown one it says which was meant, these or those that are missing.
    """
    faults = ordered_faults(error)
    place = ".".join(str(part)[:80] for part in faults[0]["loc"])
    what = faults[0]["msg"].removeprefix("Value error, ")
    if faults[0]["type"] == "extra_forbidden":
        what += _meant(faults, known)
    more = f" (+{error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return " ".join(f"{place}{': ' if place else ''}{what}{more}".split())[:300]


def _meant(faults: list[ErrorDetails], known: Iterable[str]) -> str:
    """`, did you mean instruction?` where the first fault's field is near one that is known or missing beside it."""
    *beside, name = faults[0]["loc"]
    missing = [
        str(fault["loc"][-1]) for fault in faults if fault["type"] == "missing" and [*fault["loc"][:-1]] == beside
    ]
    by_case = {field.casefold(): field for field in [*missing, *(known if not beside else ())]}
    near = get_close_matches(str(name).strip().casefold(), by_case, n=1, cutoff=0.75)
    return f", did you mean {by_case[near[0]]}?" if near else ""


#: Kept, because `json.dumps` makes an encoder anew for each call, and ids are made by the hundred thousand.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """`value` as JSON bytes that are the same for equal values: sorted keys, no spaces, UTF-8."""
    return _CANONICAL.encode(value).encode()


def document_digest(document: Mapping[str, Any]) -> str:
    """sha256 over a document as it is in its file, without the `digest` that it carries itself."""
    return sha256(canonical_json({name: value for name, value in document.items() if name != "digest"})).hexdigest()


def sealed(record: R) -> R:
    """The record, which has a field `digest`, with the digest of the document that it makes."""
    return record.model_copy(update={"digest": document_digest(record.model_dump(mode="json"))})


def is_as_written(text: bytes) -> bool:
    """Whether a document in JSON fits the digest that it carries; one of an earlier version carries none."""
    document = json.loads(text)
    return not document.get("digest") or document["digest"] == document_digest(document)


def short_hash(*parts: Any) -> str:
    """16 hex digits over the canonical JSON of `parts`; what every id is made with."""
    return sha256(canonical_json(parts)).hexdigest()[:ID_HEX_DIGITS]
