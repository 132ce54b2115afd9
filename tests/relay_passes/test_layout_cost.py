"""Where layers go by default and where that is asked: relations that hold for any constants of the estimate, and its names."""

import pytest

from relay_passes.block_layout import room_for
from relay_passes.layout_cost import BLOCKED, PLAIN, Layer


def layer(
    channels: int, filters: int, *, image: int = 56, size: int = 1, stride: int = 1, comes: str = PLAIN, leaves: str = PLAIN
) -> Layer:
    result = (1, filters, image // stride, image // stride)
    blocked = comes == BLOCKED
    few = not blocked and channels <= 8
    shapes = (1, channels, image, image), (filters, channels, size, size), result
    return Layer(*shapes, (stride, stride), blocked, not blocked and not few, leaves == BLOCKED)


def ways(one: Layer, lanes: int = 16) -> tuple[str, ...]:
    few = not one.comes_blocked and not one.to_be_blocked
    return one.ways(one.image[1] if few else room_for(one.image[1], lanes), room_for(one.weight[0], lanes), lanes)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(layer(64, 64, comes=BLOCKED, leaves=BLOCKED), (BLOCKED,), id="whole blocks between blocks"),
        pytest.param(layer(64, 64, size=3, comes=BLOCKED), (BLOCKED,), id="and at their end"),
        pytest.param(layer(32, 32, size=3, stride=2), (BLOCKED,), id="a stride, of which a plane computes all"),
        pytest.param(layer(9, 9, size=3), (PLAIN,), id="channels that fill half a block"),
        pytest.param(layer(128, 128, image=28), (BLOCKED, PLAIN), id="whole blocks that must be made and unmade"),
        pytest.param(layer(64, 2, comes=BLOCKED), (BLOCKED,), id="few filters, many channels to unblock for them"),
        pytest.param(layer(64, 2, size=5, comes=BLOCKED), (PLAIN,), id="few filters, much work wasted on others"),
        pytest.param(layer(64, 4, image=1, comes=BLOCKED, leaves=BLOCKED), (BLOCKED,), id="one pixel, not worth a plane"),
        pytest.param(layer(3, 16, stride=4, size=7), (BLOCKED,), id="no plane for such strides"),
        pytest.param(layer(3, 4, stride=4, size=7), (PLAIN,), id="nor blocks for such filters"),
    ],
)
def test_where_layers_go(one: Layer, expected: tuple[str, ...]) -> None:
    assert ways(one) == expected


def test_neighbours_in_blocks_speak_for_blocks() -> None:
    apart, between = layer(24, 24, size=3), layer(24, 24, size=3, comes=BLOCKED, leaves=BLOCKED)
    assert between.blocked(32, 32) < apart.blocked(32, 32)
    assert between.plain() > apart.plain()


def test_equal_layers_are_called_the_same() -> None:
    assert layer(24, 32, size=3).like == layer(24, 32, size=3, comes=BLOCKED).like == "1x24x56x56 to 32x24x3x3"
    assert layer(24, 32, size=3, stride=2).like == "1x24x56x56 to 32x24x3x3 by 2x2"
