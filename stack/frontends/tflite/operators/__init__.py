"""The operators that we can import, by how their converters read and write quantised tensors.

`REAL` compute with the numbers that integers stand for, `STORED` with the integers themselves.
"""

from stack.frontends.tflite.conversion import Converter
from stack.frontends.tflite.operators import activations, convolution, elementwise, pooling, reduction, shapes, types

REAL: dict[str, Converter] = {
    **activations.REAL,
    **convolution.REAL,
    **elementwise.REAL,
    **pooling.REAL,
    **reduction.REAL,
    **types.REAL,
}
STORED: dict[str, Converter] = {**elementwise.STORED, **reduction.STORED, **shapes.STORED, **types.STORED}
