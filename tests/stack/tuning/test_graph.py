"""The ways through a graph: their programs count, and so do the transforms between layouts that go another way than their neighbours."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper

from relay_passes.block_layout import block_layout
from stack.graph import read
from stack.tuning.graph import Variants
from targets.registry import family_of, find
from tests.models.build import model, tensor

TARGET = "x86-avx512"


def chain(*channels: int) -> onnx.ModelProto:
    """Convolutions one behind the other."""
    rng = np.random.default_rng(0)
    shapes = [(after, before, 3, 3) for before, after in pairwise(channels)]
    weights = {f"w{at}": rng.standard_normal(shape).astype("float32") for at, shape in enumerate(shapes)}
    nodes = [helper.make_node("Conv", [f"x{at}", name], [f"x{at + 1}"], pads=[1] * 4) for at, name in enumerate(weights)]
    return model(nodes, [tensor("x0", (1, channels[0], 12, 12))], [nodes[-1].output[0]], weights)


@pytest.fixture
def variants(monkeypatch) -> Variants:
    """Two layers of different shapes, each of which can go both ways."""
    monkeypatch.setattr(
        block_layout,
        "__defaults__",
        (  # whatever the estimate says of small layers
            lambda layer, room_in, room_out, lanes: ("blocked", "plain"),
        ),
    )
    target = find(TARGET)
    return Variants(read(chain(24, 28, 20), target, family_of(target), {}), TARGET, "f32")


def costs(variants: Variants, blocked: float, plain: float, transform: float) -> dict[str, float]:
    """Of every program of all ways through the graph, by its kind."""
    by_rule = {"conv2d": blocked, "conv2d_plane": plain}
    return {key: by_rule.get(work.task.space.rule, transform) for key, work in variants.works.items()}


def test_each_layer_is_a_place_and_each_way_is_made_once(variants):
    assert list(variants.places.values()) == 2 * [("blocked", "plain")]
    assert {work.task.space.rule for work in variants.extra.values()} >= {"conv2d_plane"}
    variants.cheapest(costs(variants, 1.0, 1.0, 1.0))
    assert len(variants.found) == 4


@pytest.mark.parametrize(
    ("blocked", "plain", "transform", "expected"),
    [
        pytest.param(3.0, 2.0, 4.0, {"plain"}, id="both change, and the transforms go"),
        pytest.param(2.0, 3.0, 0.1, set(), id="both stay where transforms are cheap"),
    ],
)
def test_the_whole_graph_decides(variants, blocked, plain, transform, expected):
    known = costs(variants, blocked, plain, transform)
    choices, cost = variants.cheapest(known)
    assert set(choices.values()) == expected
    assert len(choices) in (0, 2)
    assert cost == variants.cost(known, choices)


def test_a_layer_that_goes_alone_pays_for_transforms(variants):
    known = costs(variants, 2.0, 1.0, 100.0)
    for place in variants.places:
        alone = variants.cost(known, {place: "plain"})
        assert alone > variants.cost(known, dict.fromkeys(variants.places, "plain")) + 100
