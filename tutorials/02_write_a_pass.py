"""Write a graph pass: a rule, the table that makes it a pass, and the three questions to ask of it.

Run it: python tutorials/02_write_a_pass.py

The pass of this tutorial recognises an activation that exporters write with two operators:

    y = multiply(x, sigmoid(x))   ->   y = silu(x)
"""

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax

from relay_passes.rewrite import Graph, op_name, rewrite_pass, rewrites

# 1. The rule. It is called for every `multiply`, gets the call and may ask the graph about its surroundings. Guards come first: whatever is
#    not exactly the case we mean returns None, which leaves the call alone. What it returns takes the call's place.


@rewrites("relax.multiply")
def product_with_own_sigmoid(call: relax.Call, graph: Graph) -> relax.Expr | None:
    for x, gate in (call.args, reversed(list(call.args))):
        source = graph.source(gate)  # the call that made this variable
        if op_name(source) == "relax.sigmoid" and source.args[0].same_as(x):
            return relax.op.nn.silu(x)
    return None


# 2. The pass. Its name is what STACK_DEBUG prints and STACK_SKIP leaves out. In the tree it would be a file of its own, `find_silu.py`,
#    and one line in `relay_passes/pipeline.py`.

find_silu = rewrite_pass("find_silu", [product_with_own_sigmoid])


# 3. Does it do what it says? The smallest network that shows it, before and after.


def network(body: Callable[[relax.BlockBuilder, relax.Var], relax.Expr]) -> tvm.IRModule:
    x = relax.Var("x", relax.TensorType((2, 8), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, x))
        builder.emit_func_output(result)
    return builder.finalize()


before = network(lambda builder, x: relax.op.multiply(builder.emit(relax.op.sigmoid(x)), x))
after = find_silu(before)
print("before\n", before.script(show_meta=False), "\nafter\n", after.script(show_meta=False))
(binding,) = after["main"].body.blocks[0].bindings
assert op_name(binding.value) == "relax.nn.silu"

# 4. Does it leave alone what looks alike? Here the sigmoid is of another tensor.

other = network(lambda builder, x: relax.op.multiply(builder.emit(relax.op.sigmoid(builder.emit(relax.op.exp(x)))), x))
tvm.ir.assert_structural_equal(find_silu(other), other)

# 5. Does it keep the numbers, and come to rest? `tests/test_meaning.py` asks this of every pass in the pipelines, on every sample model.


def run(module: tvm.IRModule, x: np.ndarray) -> np.ndarray:
    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(x)).numpy()


x = np.random.default_rng(0).standard_normal((2, 8)).astype("float32")
np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-6)
tvm.ir.assert_structural_equal(find_silu(after), after)
print("same numbers, and a second run changes nothing")
