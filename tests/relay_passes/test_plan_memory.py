import itertools

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.pipeline import to_programs
from relay_passes.plan_memory import ALIGN, Tensor, is_op, place, plan_memory
from tests.relay_passes.network import const, network, random_inputs, run, run_planned

op, nn = relax.op, relax.op.nn


def planned(module: tvm.IRModule) -> tvm.IRModule:
    for graph_pass in to_programs():
        module = graph_pass(module)
    return module


def arena_bytes(module: tvm.IRModule) -> int:
    values = [binding.value for binding in module["main"].body.blocks[0].bindings]
    return sum(int(value.args[0].values[0]) for value in values if is_op(value, "relax.memory.alloc_storage"))


def softmaxes(x: relax.Expr, count: int) -> relax.Expr:
    """Programs that never fuse, so each leaves one tensor."""
    for _ in range(count):
        x = nn.softmax(x, axis=-1)
    return x


def test_a_chain_needs_two_tensors_however_long() -> None:
    assert arena_bytes(planned(network(lambda x: softmaxes(x, 9), (16, 64)))) == 2 * 16 * 64 * 4


def test_the_result_is_not_in_the_arena() -> None:
    assert arena_bytes(planned(network(lambda x: softmaxes(x, 2), (16, 64)))) == 16 * 64 * 4


def test_a_view_keeps_its_tensor_alive() -> None:
    def body(x: relax.Var) -> relax.Expr:
        early = nn.softmax(x, axis=-1)
        return op.matmul(op.reshape(early, (64, 16)), softmaxes(op.reshape(softmaxes(early, 3), (16, 64)), 2))

    before = network(body, (16, 64))
    module, inputs = planned(before), random_inputs(before)
    np.testing.assert_allclose(run_planned(module, inputs)[0], run(before, inputs)[0], rtol=1e-5)


def test_several_results_one_of_which_is_read_again() -> None:
    def body(x: relax.Var) -> relax.Expr:
        first = nn.softmax(x, axis=-1)
        return relax.Tuple([first, op.matmul(nn.softmax(first, axis=-1), const(64, 3))])

    before = network(body, (16, 64))
    module, inputs = planned(before), random_inputs(before)
    for actual, expected in zip(run_planned(module, inputs), run(before, inputs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_left_alone_without_intermediates() -> None:
    module = planned(network(lambda x: nn.relu(x), (4,)))
    assert arena_bytes(module) == 0
    tvm.ir.assert_structural_equal(plan_memory(module), module)


def lower_bound(tensors: list[Tensor]) -> int:
    """The most bytes that live at one time: no plan is smaller."""
    return max(sum(t.size for t in tensors if t.first <= now <= t.last) for now in range(1 + max(t.last for t in tensors)))


@pytest.mark.parametrize("seed", range(20))
def test_places_never_overlap_while_both_live_and_stay_near_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = []
    for index in range(40):
        first = int(rng.integers(0, 40))
        size, life = ALIGN * int(rng.integers(1, 50)), int(rng.integers(1, 6))
        tensors.append(Tensor(relax.Var(f"t{index}", relax.ObjectType()), size, first, first + life))
    size = place(tensors)
    for a, b in itertools.combinations(tensors, 2):
        together = a.first <= b.last and b.first <= a.last
        assert not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    assert all(tensor.offset % ALIGN == 0 for tensor in tensors)
    assert lower_bound(tensors) <= size <= 1.25 * lower_bound(tensors)
