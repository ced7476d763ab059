"""Messages: what is sent comes back, by memory and by bytes; nothing is copied by the receiver, nothing left behind."""

import json
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runtime.messages import Message, from_bytes, receive, to_bytes
from tests.cases.messages import send

DOCUMENTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20) | st.floats(allow_nan=False))
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9)
ARRAYS = st.lists(
    st.sampled_from(["uint8", "bool", "float32"]).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)), max_size=4
)


def sent(message: Message) -> Message:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, message)
        got = receive(theirs)
    assert got is not None
    return got


@given(DOCUMENTS, ARRAYS)
def test_what_is_sent_comes_back(document: dict[str, object], given_arrays: list[np.ndarray]) -> None:
    message = Message(document, tuple(given_arrays))
    for got in (from_bytes(to_bytes(message)), sent(message)):
        assert got.document == document
        assert len(got.arrays) == len(given_arrays)
        for one, other in zip(got.arrays, given_arrays, strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other, equal_nan=one.dtype == np.float32)
            assert not one.flags.writeable or not one.size


def test_an_array_that_is_a_view_is_written_in_its_order() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    assert np.array_equal(sent(Message({}, (image,))).arrays[0], image)


def test_several_messages_come_one_by_one_and_none_at_the_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        for number in range(3):
            send(ours, Message({"number": number}, (np.full(5, number, np.uint8),)))
        ours.close()
        for number in range(3):
            got = receive(theirs)
            assert got is not None
            assert (got.document, got.arrays[0].tolist()) == ({"number": number}, [number] * 5)
        assert receive(theirs) is None


@pytest.mark.parametrize("dtype", ["object", "float64", "U3"])
def test_other_arrays_are_refused_on_both_sides(dtype: str) -> None:
    with pytest.raises(ValueError, match="an array of"):
        to_bytes(Message({}, (np.zeros(2, dtype),)))
    head = json.dumps({"document": {}, "arrays": [[dtype, [2]]]}).encode()
    with pytest.raises(ValueError, match="an array of"):
        from_bytes(len(head).to_bytes(8, "little") + head + bytes(200))
