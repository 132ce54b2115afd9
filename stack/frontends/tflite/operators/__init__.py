"""The operators that we can import, by how their converters read and write quantised tensors.

`REAL` compute with the numbers that integers stand for, `STORED` with the integers themselves.
"""

from stack.frontends.tflite.conversion import Converter
from stack.frontends.tflite.operators import (
    activations,
    blocks,
    convolution,
    elementwise,
    lstm,
    matmul,
    padding,
    pooling,
    reduction,
    resize,
    shapes,
    slicing,
    svdf,
    types,
    variables,
)

REAL: dict[str, Converter] = {
    **activations.REAL,
    **convolution.REAL,
    **elementwise.REAL,
    **matmul.REAL,
    **pooling.REAL,
    **reduction.REAL,
    **resize.REAL,
}
STORED: dict[str, Converter] = {
    **blocks.STORED,
    **elementwise.STORED,
    **lstm.STORED,
    **padding.STORED,
    **reduction.STORED,
    **resize.STORED,
    **shapes.STORED,
    **slicing.STORED,
    **svdf.STORED,
    **types.STORED,
    **variables.STORED,
}
