"""Sums that ONNX Runtime computes over real numbers, although both operands and the result are bytes: ONNX's Sum, unlike its Add.

    quantize(add(dequantize(a), dequantize(b), real_sum))   ->   quantize(add(first(dequantize(a)), first(dequantize(b))))

Both dequantized values are rounded before they are added. `first` changes nothing: without it code generation would multiply and add in
one operation, and round once. LLVM's fence for arithmetic is no instruction.
"""

from tvm import relax, te, tirx

from relay_passes.integers.island import operand
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, op_name, rewrites

REAL_SUM = "real_sum"  # the attribute by which the importer tells one
FIRST = "rounded_first"
ELEMENTWISE = 0  # TVM's pattern kind


def is_real_sum(call: relax.Call) -> bool:
    return call.attrs is not None and REAL_SUM in call.attrs.keys()  # noqa: SIM118  # attributes are no mapping


def is_rounded_first(call: relax.Expr) -> bool:
    return op_name(call) == "relax.call_tir" and call.args[0].name_hint.startswith(FIRST)


def rounded_first(expr: relax.Expr, programs: Programs) -> relax.Call:
    x = placeholder(expr, "x")

    def element(*index: tirx.Var) -> tirx.Expr:
        return tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", x[index])

    return programs.call(FIRST, [x, te.compute(x.shape, element, name=FIRST)], [expr], pattern=ELEMENTWISE)


def sum_rule(programs: Programs) -> Rule:
    @rewrites("relax.add")
    def real_sum(call: relax.Call, graph: Graph) -> relax.Expr | None:
        if not is_real_sum(call):
            return None
        operands = [operand(argument, graph) for argument in call.args]
        if any(each is None or not each.uniform for each in operands):
            return None
        return relax.op.add(*(rounded_first(argument, programs) for argument in call.args))

    return real_sum
