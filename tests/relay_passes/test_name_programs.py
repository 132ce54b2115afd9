import pytest
import tvm
from tvm import relax

from relay_passes.name_programs import LONGEST, name_programs, readable
from tests.relay_passes.network import const, network, operators

op, nn, t = relax.op, relax.op.nn, relax.transform


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fused_conv2d8_add6_add7_relu5", "conv2d_add_add_relu"),
        ("fused_tir_sqrt_max_pool2d1", "sqrt_max_pool2d"),
        ("matmul", "matmul"),
        ("fused_" + "reshape_" * 40, "reshape_reshape_reshape_reshape_reshape_reshape_reshape"),
        ("x" * 300, "x" * LONGEST),
    ],
)
def test_readable(name: str, expected: str) -> None:
    assert readable(name) == expected


def programs() -> tvm.IRModule:
    def body(x: relax.Var) -> relax.Expr:
        return nn.relu(op.matmul(nn.relu(op.matmul(nn.relu(op.matmul(x, const(4, 8))), const(8, 4))), const(4, 8)))

    module = network(body, (2, 4))
    for graph_pass in (t.LegalizeOps(), t.AnnotateTIROpPattern(), t.FuseOps(), t.FuseTIR(), t.DeadCodeElimination()):
        module = graph_pass(module)
    return module


def test_programs_are_numbered_in_the_order_of_first_use_and_equal_layers_share_one() -> None:
    module = name_programs(programs())
    assert operators(module) == ["matmul_relu", "matmul_relu_1", "matmul_relu"]
    assert sorted(var.name_hint for var in module.get_global_vars()) == ["main", "matmul_relu", "matmul_relu_1"]


def test_left_alone_once_named() -> None:
    named = name_programs(programs())
    tvm.ir.assert_structural_equal(name_programs(named), named)
