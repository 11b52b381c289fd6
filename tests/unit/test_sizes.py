import pytest

from unet_ray.sizes import padded_sizes, unpadded_sizes


def valid_output(image: int, depth: int) -> int | None:
    """Follow a size through the published network; None where a map cannot be halved or nothing is left."""
    size, skips = image, []
    for _ in range(depth):
        size -= 4
        if size <= 0 or size % 2:
            return None
        skips.append(size)
        size //= 2
    size -= 4
    for skip in reversed(skips):
        size = 2 * size
        if not 0 < size <= skip:
            return None
        size -= 4
    return size if size > 0 else None


def test_the_published_network_makes_388_pixels_of_572() -> None:
    sizes = unpadded_sizes(4)
    assert valid_output(572, 4) == 388
    assert (sizes.margin, sizes.input_for(388), sizes.input_for(375), sizes.input_for(389)) == (92, 572, 572, 588)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_the_sizes_of_unpadded_networks_are_all_that_arithmetic_allows(depth: int) -> None:
    sizes = unpadded_sizes(depth)
    possible = {output: image for image in range(1, 800) if (output := valid_output(image, depth)) is not None}
    assert possible
    assert all(image == output + 2 * sizes.margin for output, image in possible.items())
    largest = max(possible)
    assert list(possible) == [size for size in range(1, largest + 1) if sizes.at_least(size) == size]
    for wanted in range(1, largest):
        assert sizes.input_for(wanted) == min(image for output, image in possible.items() if output >= wanted)


@pytest.mark.parametrize(("size", "least", "most", "nearest"), [(1, 16, 16, 16), (16, 16, 16, 16), (39, 48, 32, 32),
                                                                (40, 48, 32, 48), (360, 368, 352, 368)])  # fmt: skip
def test_padded_networks_take_multiples_of_their_stride(size: int, least: int, most: int, nearest: int) -> None:
    sizes = padded_sizes(4)
    assert (sizes.at_least(size), sizes.at_most(size), sizes.nearest(size)) == (least, most, nearest)
    assert sizes.input_for(size) == least


def test_sizes_are_put_in_words() -> None:
    assert padded_sizes(4).rule == "multiples of 16"
    assert unpadded_sizes(2).rule == "multiples of 4"
    assert unpadded_sizes(4).rule == "multiples of 16 plus 4"
