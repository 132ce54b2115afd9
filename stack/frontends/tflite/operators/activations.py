"""Activations: operators of their own, and those that follow another one in the same node.

The clips are relu where they have no upper end, and clip where they have one.
"""

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused

NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)


def activate(kind: int, data: relax.Expr) -> relax.Expr:
    """The activation that a node asks for by its number in the schema."""
    if kind == NONE:
        return data
    if kind == RELU:
        return relax.op.nn.relu(data)
    if kind in (RELU_N1_TO_1, RELU6):
        return relax.op.clip(data, *((-1.0, 1.0) if kind == RELU_N1_TO_1 else (0.0, 6.0)))
    if kind == TANH:
        return relax.op.tanh(data)
    raise Refused(f"activation {kind} is not known")


def alone(kind: int) -> Converter:
    return lambda c: activate(kind, c.real(0))


def softmax(c: Conversion) -> relax.Expr:
    beta, data = c.option("beta"), c.real(0)
    return relax.op.nn.softmax(data if beta == 1 else relax.op.multiply(data, c.const(beta)), -1)


def hard_swish(c: Conversion) -> relax.Expr:
    """x * relu6(x + 3) / 6"""
    data = c.real(0)
    gate = relax.op.clip(c.emit(relax.op.add(data, c.const(3.0))), 0.0, 6.0)
    return relax.op.multiply(c.emit(relax.op.multiply(data, c.emit(gate))), c.const(1 / 6))


def elu(c: Conversion) -> relax.Expr:
    """x where it is positive, exp(x) - 1 elsewhere"""
    data = c.real(0)
    zero = c.const(0.0)
    below = c.emit(relax.op.subtract(c.emit(relax.op.exp(c.emit(relax.op.minimum(data, zero)))), c.const(1.0)))
    return relax.op.add(c.emit(relax.op.maximum(data, zero)), below)


def leaky_relu(c: Conversion) -> relax.Expr:
    return relax.op.nn.leakyrelu(c.real(0), c.option("alpha"))


def prelu(c: Conversion) -> relax.Expr:
    """x where it is positive, slope * x elsewhere; the slopes are broadcast"""
    data, slope = c.real(0), c.real(1)
    return relax.op.where(c.emit(relax.op.greater_equal(data, c.const(0.0))), data, c.emit(relax.op.multiply(data, slope)))


REAL: dict[str, Converter] = {
    "ELU": elu,
    "GELU": lambda c: (relax.op.nn.gelu_tanh if c.option("approximate") else relax.op.nn.gelu)(c.real(0)),
    "HARD_SWISH": hard_swish,
    "LEAKY_RELU": leaky_relu,
    "LOGISTIC": lambda c: relax.op.sigmoid(c.real(0)),
    "LOG_SOFTMAX": lambda c: relax.op.nn.log_softmax(c.real(0), -1),
    "PRELU": prelu,
    "RELU": alone(RELU),
    "RELU6": alone(RELU6),
    "RELU_N1_TO_1": alone(RELU_N1_TO_1),
    "SOFTMAX": softmax,
    "TANH": alone(TANH),
}
