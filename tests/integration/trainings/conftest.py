"""What the trainings of a policy share."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.cases.policy_loop_cases import Bright, cheap_trainings, use_bright


@pytest.fixture(scope="module")
def cheap() -> Iterator[None]:
    """Reads and makes once what is not trained, and draws nothing."""
    with cheap_trainings():
        yield


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bright]:
    """Puts the reward of these tests in the place of `oracle`; a test of the loop, not of the rewards."""
    return partial(use_bright, monkeypatch)
