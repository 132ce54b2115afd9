"""Products of two activations, whose last two dimensions may each be transposed.

BATCH_MATMUL   x [..., m, k], y [..., k, n]   ->   matmul
"""

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused, dequantize


def operand(c: Conversion, index: int, turned: bool) -> relax.Expr:
    data, affine, rank = c.stored(index), c.affine(index), len(c.shape(index))
    if rank < 2:
        raise Refused(f"its input {c.tensor(index).name!r} is no matrix")
    if turned:
        data = c.emit(relax.op.permute_dims(data, [*range(rank - 2), rank - 1, rank - 2]))
    return c.emit(dequantize(data, affine, c.tensor(index).dtype)) if affine else data


def batch_matmul(c: Conversion) -> relax.Expr:
    return relax.op.matmul(operand(c, 0, c.option("adj_x")), operand(c, 1, c.option("adj_y")))


REAL: dict[str, Converter] = {"BATCH_MATMUL": batch_matmul}
