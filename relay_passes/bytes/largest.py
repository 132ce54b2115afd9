"""The largest byte of each window, with the channels last: a program of its own, which has a rule of its own.

max_pool2d(x uint8, NHWC)   ->   call_tir(max_of_bytes, x)

max_of_bytes[n, h, w, c] max= x[n, h * stride + r * dilation - top, w * stride + s * dilation - left, c] if inside else 0
"""

from tvm import relax, te, tirx

from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, dtype, is_tensor, rewrites, shape

NAME = "max_of_bytes"


def largest_rule(programs: Programs) -> Rule:
    @rewrites("relax.nn.max_pool2d")
    def largest(call: relax.Call, graph: Graph) -> relax.Expr | None:
        attrs = call.attrs
        layout = (str(attrs.layout), str(attrs.out_layout))
        if layout != ("NHWC", "NHWC") or dtype(call) != "uint8" or not is_tensor(call) or not is_tensor(call.args[0]):
            return None
        x = placeholder(call.args[0], "x")
        _, height, width, _ = shape(call.args[0])
        strides, dilation, kernel = ([int(each) for each in given] for given in (attrs.strides, attrs.dilation, attrs.pool_size))
        top, left = (int(amount) for amount in list(attrs.padding)[:2])
        r, s = te.reduce_axis((0, kernel[0]), "r"), te.reduce_axis((0, kernel[1]), "s")

        def element(n: tirx.Var, h: tirx.Var, w: tirx.Var, c: tirx.Var) -> tirx.Expr:
            row, column = h * strides[0] + r * dilation[0] - top, w * strides[1] + s * dilation[1] - left
            inside = te.all(row >= 0, row < height, column >= 0, column < width)
            return te.max(te.if_then_else(inside, x[n, row, column, c], tirx.const(0, "uint8")), axis=[r, s])

        return programs.call(NAME, [x, te.compute(shape(call), element, name=NAME)], [call.args[0]])

    return largest
