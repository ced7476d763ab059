"""Requests to a Label Studio with its token; the only importer of label_studio_sdk, which knows the kinds of tokens."""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from annotation.studio.http import StudioFailure, StudioHttp, StudioSettings, base_url, connect, read_token
from annotation.studio.image_urls import Ask
from schemas.errors import BadInput


@contextmanager
def open_ask(settings: StudioSettings) -> Iterator[Ask]:
    """Asks the server that the settings name: method, path, JSON body; gives its JSON. Raises: as `open_http`, and
    RegionwiseError where it does not answer."""
    with closing(open_http(settings)) as http:

        def ask(method: str, path: str, body: Mapping[str, Any] | None) -> Any:
            return http.ask(method, path, body=None if body is None else json.dumps(body).encode())

        yield ask


def open_http(settings: StudioSettings) -> StudioHttp:
    """Requests, to be closed, with the settings' token; a personal access token is exchanged for short-lived ones.

    Raises: BadInput for a wrong URL or token.
    """
    from label_studio_sdk.core.api_error import ApiError
    from label_studio_sdk.core.client_wrapper import SyncClientWrapper

    token = read_token(settings)
    connections = connect(settings)
    url = base_url(settings.url)
    try:
        wrapper = SyncClientWrapper(api_key=token, base_url=f"{url}/", httpx_client=connections, max_retries=0)
    except ApiError:
        connections.close()
        thing, remedy = f"environment variable {settings.token_env}", "put a new token into it"
        raise BadInput(thing, "holds a personal access token that has expired", remedy) from None

    def authorize() -> Mapping[str, str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, at what the SDK does
                headers: Mapping[str, str] = wrapper.get_headers()
        except ApiError as error:
            raise http.status_failure(error.status_code or 401, json.dumps(error.body).encode()) from None
        except (ValueError, RecursionError):
            fault = "answers the exchange of the token with something that is no JSON"
            raise StudioFailure(fault, "give the URL of Label Studio itself") from None
        return {"Authorization": headers["Authorization"]}

    http = StudioHttp(settings, connections, token, authorize)
    return http
