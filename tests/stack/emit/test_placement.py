"""Buffers and constants go to the memories of a board, the hot ones to the fast ones, or the model is refused with what is missing."""

import numpy as np
import pytest

from stack.emit.arena import Buffer
from stack.emit.c_network import Layer, Network, Weight
from stack.emit.placement import CODE, STACK, place_network
from stack.errors import DoesNotFit
from targets.target import Memory


def network() -> Network:
    """Two layers, 1000 -> 6000 -> 10 bytes; the second does most work and has the larger weights."""
    x, y, z = Buffer("x", 1000, -1, 0), Buffer("hidden", 6000, 0, 1), Buffer("z", 10, 1, 2)
    small, large = Weight("w1", np.zeros(100, np.int8)), Weight("w2", np.zeros(3000, np.int8))
    layers = [Layer("conv2d_1", (x, small, y), "[1000] -> [6000]", 1000), Layer("dense_1", (y, large, z), "[6000] -> [10]", 900)]
    made = Network([], [], [], [x], [z], layers, [x, y, z], [], [small, large])
    return made


def ram(name: str, size: int, speed: float = 1.0) -> Memory:
    return Memory(name, "ram", 0x2000_0000, size, speed)


def flash(name: str, size: int, speed: float = 1.0) -> Memory:
    return Memory(name, "flash", 0, size, speed)


def test_a_core_without_a_board_has_one_arena_of_the_size_it_takes() -> None:
    assert place_network(network(), [], "cortex-m4").arenas == [7008]


def test_small_scratch_goes_to_the_stack_where_it_would_raise_the_peak() -> None:
    made = network()
    made.buffers += [Buffer("scratch of layer 1", 300, 0, 0, scratch=True), Buffer("scratch of layer 2", 200, 1, 1, scratch=True)]
    placement = place_network(made, [], "cortex-m4")
    assert (list(placement.arenas), placement.stack) == ([7008], 300)


def test_large_scratch_and_scratch_that_costs_nothing_stay_in_the_arena() -> None:
    made = network()
    made.buffers += [Buffer("large", 1000, 0, 0, scratch=True), Buffer("free", 200, 1, 1, scratch=True)]
    placement = place_network(made, [], "cortex-m4")
    assert (list(placement.arenas), placement.stack) == ([8000], 0)


def test_what_fits_in_the_fast_memory_stays_there() -> None:
    placement = place_network(network(), [ram("slow", 99_999, 0.5), ram("fast", 7008 + STACK), flash("flash", 99_999)], "board")
    assert list(placement.arenas) == [7008]
    assert [memory.name for memory in placement.rams] == ["fast"]


def test_the_coldest_buffer_overflows_to_the_next_memory() -> None:
    made = network()
    placement = place_network(made, [ram("fast", 2048 + STACK), ram("slow", 99_999, 0.5), flash("flash", 99_999)], "board")
    assert {buffer.name: buffer.memory for buffer in made.buffers} == {"x": 0, "hidden": 1, "z": 0}
    assert [memory.name for memory in placement.rams] == ["fast", "slow"]


def test_the_weights_with_most_work_a_byte_get_the_fast_flash() -> None:
    made = network()
    place_network(made, [ram("ram", 99_999), flash("internal", CODE + 200), flash("external", 99_999, 0.2)], "board")
    assert {weight.name: weight.memory for weight in made.weights} == {"w1": 0, "w2": 1}


def test_too_little_ram_is_refused_with_the_layer_to_blame() -> None:
    with pytest.raises(DoesNotFit) as caught:
        place_network(network(), [ram("ram", 4096), flash("flash", 99_999)], "tiny-board")
    text = str(caught.value)
    assert "needs 7,008 bytes of RAM, and tiny-board has 2,048 for it" in text
    assert "layer 1, conv2d_1 [1000] -> [6000] needs hidden 6,000, x 1,000" in text


def test_what_lives_before_and_after_the_peak_is_not_to_blame() -> None:
    made = network()
    z = made.buffers[-1]
    z.bytes, last = 2000, Buffer("last", 4, 2, 3)
    made.layers = [*made.layers, Layer("dense_2", (z, last), "[2000] -> [4]", 40)]
    made.buffers.append(last)
    with pytest.raises(DoesNotFit) as caught:
        place_network(made, [ram("ram", 4096), flash("flash", 99_999)], "tiny-board")
    assert caught.value.at == "layer 2, dense_1 [6000] -> [10] needs hidden 6,000, z 2,000"


def test_too_little_flash_is_refused_with_the_layer_to_blame() -> None:
    with pytest.raises(DoesNotFit) as caught:
        place_network(network(), [ram("ram", 99_999), flash("flash", CODE + 2000)], "tiny-board")
    text = str(caught.value)
    assert "needs 7,196 bytes of flash, and tiny-board has 6,096" in text
    assert "layer 2, dense_1 [6000] -> [10] has 3,000 bytes of weights" in text
