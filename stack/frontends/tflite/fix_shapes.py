"""The shapes of the inputs: those of the file, or those that the user gives for dimensions which the file leaves open.

    x: [-1, 49, 10, 1], stored as [1, 49, 10, 1]   with {"x": (4, 49, 10, 1)}   ->   [4, 49, 10, 1]

A dimension that the file marks as open has a size there all the same, mostly 1, and keeps it unless another is asked for.
"""

import difflib
from collections.abc import Mapping, Sequence

from stack.errors import BadModel
from stack.frontends.tflite.graph import Source, Tensor


def fix_shapes(source: Source, shapes: Mapping[str, Sequence[int]]) -> dict[int, tuple[int, ...]]:
    """The shape of each input by its position. Raises BadModel for each way in which the given ones do not fit."""
    tensors = {source.main.tensors[index].name: (index, source.main.tensors[index]) for index in source.main.inputs}
    result = {index: tensor.shape for index, tensor in tensors.values()}
    for name, shape in shapes.items():
        if name not in tensors:
            near = difflib.get_close_matches(name, tensors, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"its inputs are {', '.join(map(repr, tensors)) or 'none'}"
            raise BadModel(f"the model has no input {name!r}", at=source.at, hint=hint)
        index, tensor = tensors[name]
        result[index] = checked(tensor, tuple(int(extent) for extent in shape), source.at)
    return result


def checked(tensor: Tensor, given: tuple[int, ...], at: str) -> tuple[int, ...]:
    name, declared = tensor.name, tensor.open_shape or tensor.shape
    if any(extent < 1 for extent in given):
        raise BadModel(f"shape {list(given)} of input {name!r} has a dimension below 1", at=at, hint="every dimension is at least 1")
    if len(given) != len(declared):
        raise BadModel(
            f"input {name!r} has {len(declared)} dimensions, {show(declared)}, but its shape was given as {list(given)}",
            at=at, hint=f"give {len(declared)} numbers",
        )  # fmt: skip
    fixed = [extent if extent >= 0 else got for extent, got in zip(declared, given, strict=True)]
    if fixed != list(given):
        raise BadModel(
            f"input {name!r} is fixed to {show(declared)} by the model, but its shape was given as {list(given)}",
            at=at, hint=f"use --shape {name}={','.join(map(str, fixed))}, or convert the model with that dimension open",
        )  # fmt: skip
    return given


def show(shape: Sequence[int]) -> str:
    return f"[{', '.join('?' if extent < 0 else str(extent) for extent in shape)}]"
