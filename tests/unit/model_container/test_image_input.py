"""Which inputs take images, and what they make of them."""

from __future__ import annotations

import pytest

from app.core import image
from model_container.contract.image_input import (
    ANY_IMAGE,
    CHANNELS,
    LAYOUTS,
    SIDE_MAX,
    DeclaredImage,
    Port,
    image_input,
)


def test_the_gateway_and_the_runtime_know_the_same_words() -> None:
    assert (set(image.MODES), image.LAYOUTS, image.SIDE_MAX) == (set(CHANNELS), LAYOUTS, SIDE_MAX)


@pytest.mark.parametrize(
    ("shape", "mode", "layout", "size"),
    [
        ((-1, 3, 224, 224), "RGB", "chw", (224, 224)),
        ((1, 1, 28, 28), "L", "chw", (28, 28)),
        ((-1, 4, 32, 64), "RGBA", "chw", (32, 64)),
        ((-1, 3, -1, -1), "RGB", "chw", (0, 0)),
        ((-1, 224, 224, 3), "RGB", "hwc", (224, 224)),
        ((-1, -1, -1, 1), "L", "hwc", (0, 0)),
        ((-1, 28, 28), "L", "hw", (28, 28)),
        ((-1, 784), "L", "flat", (28, 28)),
    ],
)
def test_a_shape_implies_an_image(shape: tuple[int, ...], mode: str, layout: str, size: tuple[int, int]) -> None:
    found = image_input([Port("x", "FP32", shape)])
    assert found is not None
    assert (found.name, found.mode, found.layout, (found.height, found.width)) == ("x", mode, layout, size)
    assert found.shape[1:] == list(shape[1:])
    assert (found.factor, found.divisor) == (1, 255)


@pytest.mark.parametrize(
    "inputs",
    [
        [Port("x", "FP32", (-1, 4))],
        [Port("x", "FP32", (-1, 49))],
        [Port("x", "FP32", (-1, 100, 7))],
        [Port("x", "FP32", (-1, 5, 224, 224))],
        [Port("x", "FP32", (-1, 3, 4, 4))],
        [Port("x", "FP32", (-1, -1))],
        [Port("x", "BYTES", (-1, 3, 224, 224))],
        [Port("x", "ANY", (-1, -1))],
        [Port("x", "FP32", (-1, 3, 32, 32)), Port("mask", "FP32", (-1, 1, 32, 32))],
        [Port(f"age{index}", "FP64", (-1,)) for index in range(64)],
        [],
    ],
)
def test_no_other_input_takes_images(inputs: list[Port]) -> None:
    assert image_input(inputs) is None


@pytest.mark.parametrize("name", ["feature{}", "pixel{}", "pixel_0_{}", "px {}"])
def test_a_square_of_columns_takes_images_unless_their_names_mean_something(name: str) -> None:
    found = image_input([Port(name.format(index + 1), "FP64", (-1,)) for index in range(784)])
    assert found is not None
    assert (found.layout, found.height, found.width, found.shape) == ("flat", 28, 28, [-1, 784])


def test_white_is_one_for_fractions_255_for_whole_numbers_and_16_for_the_digits_of_scikit_learn() -> None:
    words = [
        image_input([Port("x", datatype, shape)])
        for datatype, shape in (("FP16", (-1, 28, 28)), ("UINT8", (-1, 28, 28, 3)), ("FP64", (-1, 64)))
    ]
    assert [found.described for found in words if found is not None] == [
        "28 × 28 pixels, grey, values from 0 to 1",
        "28 × 28 pixels, RGB, values from 0 to 255",
        "8 × 8 pixels, grey, values from 0 to 16",
    ]


def test_the_owners_words_win_and_the_signature_says_the_rest() -> None:
    declared = DeclaredImage(mode="BGR", scale=[1, 1], mean=[100.0, 110.0, 120.0])
    found = image_input([Port("x", "FP32", (-1, 3, 224, 224))], declared)
    assert found is not None
    assert (found.mode, found.layout, found.height, found.divisor) == ("BGR", "chw", 224, 1)
    assert "less 100, 110, 120" in found.described


def test_an_input_of_any_sizes_takes_images_if_its_owner_says_so() -> None:
    found = image_input([Port("x", "FP32", (-1, -1, -1, -1))], DeclaredImage(size=[64, 32]))
    assert found is not None
    assert found.shape == [-1, 3, 64, 32]
    own = image_input([ANY_IMAGE], DeclaredImage(size=[8, 8], layout="flat"))
    assert own is not None
    assert own.shape == [-1, 64]


@pytest.mark.parametrize(
    ("inputs", "declared", "words"),
    [
        (
            [Port("x", "FP32", (-1, 3, 224, 224))],
            DeclaredImage(size=[64, 64]),
            r"\[-1, 3, 64, 64\].*\[-1, 3, 224, 224\]",
        ),
        ([Port("x", "FP32", (-1, 3, 224, 224))], DeclaredImage(mode="L"), "shape"),
        ([Port("x", "FP32", (-1, 4))], DeclaredImage(size=[2, 3]), "shape"),
        ([Port("x", "FP32", (-1, 3, 32, 32))], DeclaredImage(mean=[1.0, 2.0]), "2 numbers as `mean`"),
        ([ANY_IMAGE], DeclaredImage(layout="flat"), "no size"),
        ([Port("x", "FP32", (-1, 3)), Port("y", "FP32", (-1, 3))], DeclaredImage(), "2 inputs"),
    ],
)
def test_a_declaration_that_does_not_fit_the_model_is_refused(
    inputs: list[Port], declared: DeclaredImage, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        image_input(inputs, declared)
