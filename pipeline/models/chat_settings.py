"""Settings of a client of a chat-completions server, the server's endpoint, and its API key.

The key is never part of the settings. `what` in the functions here is what a message calls the server: "judge".
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from runtime.http import read_secret, split_url
from schemas.errors import BadInput

Seconds = Annotated[float, Field(gt=0, le=3600)]
ModelName = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,148}[!-~])?$", description="printable ASCII")]


class ChatSettings(BaseModel):
    """How a server is spoken to; the defaults suit a model served on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: ModelName | None = None
    """the model to ask for; where null, the URL's fragment (`...#model`) or the one model that the server lists"""
    accept_models: tuple[ModelName, ...] = ()
    """other names under which the server may report that model; a dated version of its own name is always accepted"""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """the environment variable that holds the API key; null: no key is sent"""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    """0: as repeatable as the server allows; null: not sent (some models refuse it)"""
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = 0
    """sampling seed; null: not sent"""
    max_tokens: Annotated[int, Field(ge=64, le=131_072)] | None = 4096
    """longest answer, enough for 40 regions or targets with their words; thinking models need more; null: not sent"""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """what the server calls it"""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """calls under way at once"""
    connect_timeout_s: Seconds = 10.0
    """longest wait for a connection"""
    read_timeout_s: Seconds = 60.0
    """longest silence of the server"""
    total_timeout_s: Seconds = 120.0
    """longest attempt as a whole, however much trickles in"""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """how often a call is tried on 408, 425, 429, 5xx, a time-out or a lost connection"""
    backoff_s: Seconds = 1.0
    """wait before the second attempt; doubles with each"""
    retry_after_max_s: Seconds = 60.0
    """longest Retry-After that is waited for; a longer one ends the call"""
    max_response_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    """longest response that is read"""


@dataclass(frozen=True)
class Endpoint:
    """base_url: up to and without `/chat/completions`; it holds no secret. model: the URL's fragment."""

    base_url: str
    model: str | None = None


def parse_endpoint(url: str, what: str) -> Endpoint:
    """The endpoint that `url` names: `https://host[:port]/v1`, with `/chat/completions` or `#model` behind it or not.

    Raises: BadInput for anything but http(s), and for a user, password or query in it (without repeating it).
    """
    parts = split_url(url, what, "give one like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise BadInput(
            f"{what} {parts.scheme}://{parts.hostname}",
            "has a user, password or query in its URL",
            "name the environment variable of the key in the setting api_key_env",
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return Endpoint(f"{parts.scheme}://{parts.netloc}{path}", parts.fragment or None)


def read_key(endpoint: Endpoint, variable: str | None, what: str) -> str | None:
    """The API key from the environment, or None where none is named.

    Raises: BadInput, without the key, where it is not set, cannot stand in a header or would go out unencrypted.
    """
    if variable is None:
        return None
    url = endpoint.base_url
    return read_secret(variable, "API key", url, f"{what} {url}", f"put the {what}'s API key into it")


def named_model(endpoint: Endpoint, settings: ChatSettings, what: str) -> str | None:
    """The model that the settings or the URL name. Raises: BadInput where that is no model name."""
    if settings.model is not None or endpoint.model is None:
        return settings.model
    return model_name(
        endpoint.model, BadInput(f"{what} {endpoint.base_url}", "its #model is no model name", "name one in ASCII")
    )


def model_name(name: str, otherwise: BadInput) -> str:
    """`name` where it is printable ASCII. Raises: `otherwise`."""
    try:
        return TypeAdapter(ModelName).validate_python(name)
    except ValidationError:
        raise otherwise from None
