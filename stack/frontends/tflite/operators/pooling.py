"""Pooling over windows of an NHWC image. What SAME pads counts for nothing, neither in the average nor in the maximum."""

from collections.abc import Callable

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused
from stack.frontends.tflite.operators.convolution import borders, expect_rank


def pool(operator: Callable[..., relax.Expr], square: bool = False) -> Converter:
    def convert(c: Conversion) -> relax.Expr:
        expect_rank(c, 4)
        size = (c.option("filter_height"), c.option("filter_width"))
        strides = (c.option("stride_h"), c.option("stride_w"))
        if min(*size, *strides) < 1:
            raise Refused(f"its window {list(size)} and strides {list(strides)} must be positive")
        _, height, width, _ = c.shape(0)
        pads = borders(c, (height, width), size, strides)
        data = c.real(0)
        data = c.emit(relax.op.multiply(data, data)) if square else data
        result = operator(data, size, strides, pads, layout="NHWC")
        return relax.op.sqrt(c.emit(result)) if square else result

    return convert


REAL = {
    "AVERAGE_POOL_2D": pool(relax.op.nn.avg_pool2d),
    "L2_POOL_2D": pool(relax.op.nn.avg_pool2d, square=True),
    "MAX_POOL_2D": pool(relax.op.nn.max_pool2d),
}
