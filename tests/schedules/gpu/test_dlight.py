"""Each class of program goes to the rule made for it, and the last rule takes what is left."""

import pytest
from tvm import te, topi

from schedules.gpu import RULES
from schedules.machine import Machine
from schedules.rule import first_space

MACHINE = Machine(cores=132, vector_bytes=128, threads_per_block=1024, shared_bytes=48 << 10, compute_capability=90)


def conv() -> list[te.Tensor]:
    x, w = te.placeholder((1, 16, 14, 14), name="x"), te.placeholder((32, 16, 3, 3), name="w")
    return [x, w, topi.nn.relu(topi.nn.conv2d(x, w, 1, 1, 1))]


def depthwise() -> list[te.Tensor]:
    x, w = te.placeholder((1, 16, 14, 14), name="x"), te.placeholder((16, 1, 3, 3), name="w")
    return [x, w, topi.nn.depthwise_conv2d_nchw(x, w, 1, 1, 1)]


def softmax() -> list[te.Tensor]:
    x = te.placeholder((12, 64), name="x")
    return [x, topi.nn.softmax(x)]


def mean() -> list[te.Tensor]:
    x = te.placeholder((8, 49), name="x")
    k = te.reduce_axis((0, 49), "k")
    return [x, te.compute((8,), lambda i: te.sum(x[i, k], axis=k), name="mean")]


def pool() -> list[te.Tensor]:
    x = te.placeholder((1, 8, 16, 16), name="x")
    return [x, topi.nn.pool2d(x, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), "max")]


@pytest.mark.parametrize(
    ("tensors", "rule"),
    [
        (conv(), "gpu_matmul"),
        (softmax(), "gpu_general_reduction"),
        (mean(), "gpu_reduction"),
        (pool(), "fallback"),
        (depthwise(), "fallback"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_programs_find_their_rule(tensors: list[te.Tensor], rule: str) -> None:
    space = first_space(RULES, te.create_prim_func(tensors), MACHINE)
    assert space.rule == rule
    scheduled = space.apply(space.default).mod["main"].script()
    assert "threadIdx.x" in scheduled
    assert "blockIdx.x" in scheduled


def test_each_point_is_a_schedule_of_its_own() -> None:
    space = first_space(RULES, te.create_prim_func(pool()), MACHINE)
    assert space.apply({}) is not space.apply({})
