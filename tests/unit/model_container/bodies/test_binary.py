"""Tensors as bytes, against Triton's own client where it has the same."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from model_container.bodies.binary import array_from, bf16_bits, bytes_from, bytes_from_texts
from model_container.bodies.problems import Problem
from model_container.bodies.values import DTYPES
from tests.unit.model_container.triton_bodies import objects

SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
PLAIN = sorted(set(DTYPES) - {"BYTES", "BF16"})
text_or_bytes = st.one_of(st.text(max_size=9), st.binary(max_size=9))


@pytest.mark.parametrize("datatype", PLAIN)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_numbers_come_back_bit_for_bit(datatype: str, data: st.DataObject) -> None:
    array = data.draw(npst.arrays(DTYPES[datatype], SHAPES))
    raw = bytes_from(array, datatype)
    assert raw == array.tobytes()
    back = array_from(raw, "x", datatype, array.shape)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == raw
    assert back.flags.writeable


@settings(max_examples=60, deadline=None)
@given(bits=npst.arrays(np.uint16, SHAPES))
def test_every_bfloat16_comes_back(bits: np.ndarray) -> None:
    theirs = bits.view(ml_dtypes.bfloat16)
    back = array_from(theirs.tobytes(), "x", "BF16", bits.shape)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, theirs.astype(np.float32))
    again = np.frombuffer(bytes_from(back, "BF16"), ml_dtypes.bfloat16).reshape(bits.shape)
    np.testing.assert_array_equal(again.astype(np.float32), back)


@settings(max_examples=60, deadline=None)
@given(numbers=npst.arrays(np.float32, npst.array_shapes(max_dims=1)))
def test_numbers_are_rounded_to_bfloat16_as_elsewhere(numbers: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        theirs = numbers.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(
        bf16_bits(numbers).view(ml_dtypes.bfloat16).astype(np.float32), theirs.astype(np.float32)
    )


@settings(max_examples=80, deadline=None)
@given(items=st.lists(text_or_bytes, max_size=6))
def test_any_bytes_come_back_and_utf_8_as_a_string(items: list[str | bytes]) -> None:
    raws = [item.encode() if isinstance(item, str) else item for item in items]
    raw = bytes_from_texts(items)
    assert list(deserialize_bytes_tensor(raw)) == raws
    back = array_from(raw, "x", "BYTES", (len(items),))
    assert [one.encode() if isinstance(one, str) else one for one in back] == raws
    assert [type(one) for one in back] == [str if is_utf8(one) else bytes for one in raws]
    if items:
        assert serialize_byte_tensor(objects(*raws)).item() == raw


def is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("raw", "datatype", "shape"),
    [
        (b"\0" * 7, "FP64", (1,)),
        (b"\0" * 9, "FP64", (1,)),
        (b"", "INT8", (1 << 60, 1 << 60)),
        (b"\0", "INT8", (0,)),
        (b"", "BYTES", (1,)),
        (b"\1\0\0", "BYTES", (1,)),
        (b"\2\0\0\0a", "BYTES", (1,)),
        (b"\1\0\0\0a\0", "BYTES", (1,)),
        (b"\xff\xff\xff\xff", "BYTES", (1,)),
        (b"\1\0\0\0a", "BYTES", (2,)),
        (b"\0\0\0\0", "BYTES", (1 << 40,)),
    ],
)
def test_bytes_that_are_not_exactly_the_tensor_are_refused(raw: bytes, datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(Problem) as raised:
        array_from(raw, "x", datatype, shape)
    assert (raised.value.status, raised.value.code) == (400, "wrong_binary_size")
    assert "'x'" in raised.value.detail
