"""The model's inputs and the user's shapes -> a type with known dimensions for every input.

    x: float32 [batch, 3, h, w], y: int64 [batch]   with {"x": (1, 3, 224, 224)}   ->   x: [1, 3, 224, 224], y: [1]

A name that the file gives to a dimension counts for all inputs that use it. Nothing else is guessed, not even a batch of one.
"""

import difflib
from collections.abc import Mapping, Sequence

import onnx

from stack.errors import BadModel

Dim = int | str | None  # known, named, or unknown


def fix_shapes(inputs: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[int]], at: str) -> dict[str, onnx.TypeProto]:
    """Types by name, in the model's order. Raises BadModel for each way in which the shapes do not fit the inputs."""
    names = [item.name for item in inputs]
    for name in shapes:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"its inputs are {', '.join(map(repr, names)) or 'none'}"
            raise BadModel(f"the model has no input {name!r}", at=at, hint=hint)
    declared = {item.name: dims(item, at) for item in inputs}
    given = {name: check(name, declared[name], shape, at) for name, shape in shapes.items()}
    meaning = symbols(declared, given)
    result, missing = {}, []
    for item in inputs:
        shape = given.get(item.name) or resolve(declared[item.name], meaning)
        if shape is None and item.name not in given:
            missing.append(item.name)
            continue
        elem_type = item.type.tensor_type.elem_type
        result[item.name] = onnx.helper.make_tensor_type_proto(elem_type, shape if shape is not None else ())
    if missing:
        raise missing_shapes(missing, declared, meaning, at)
    return result


def dims(item: onnx.ValueInfoProto, at: str) -> list[Dim] | None:
    """The declared dimensions; None where even their number is unknown."""
    kind = item.type.WhichOneof("value")
    if kind != "tensor_type":
        kind = str(kind).removesuffix("_type")
        raise BadModel(f"input {item.name!r} is not a tensor but a {kind}", at=at, hint="export it with tensors only")
    tensor = item.type.tensor_type
    if tensor.elem_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise BadModel(f"input {item.name!r} has element type {kind}", at=at, hint="cut the model after its text processing; numbers only")
    if not tensor.HasField("shape"):
        return None
    # exporters also write 0 or -1 for a dimension they do not know
    return [dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in tensor.shape.dim]


def check(name: str, declared: list[Dim] | None, shape: Sequence[int], at: str) -> tuple[int, ...]:
    got = tuple(int(extent) for extent in shape)
    if any(extent <= 0 for extent in got):
        raise BadModel(f"shape {show(got)} of input {name!r} has a dimension below 1", at=at, hint="every dimension is at least 1")
    if declared is None:
        return got
    if len(got) != len(declared):
        raise BadModel(
            f"input {name!r} has {len(declared)} dimensions, {show(declared)}, but its shape was given as {show(got)}",
            at=at, hint=f"give {len(declared)} numbers",
        )  # fmt: skip
    for want, extent in zip(declared, got, strict=True):
        if isinstance(want, int) and want != extent:
            fixed = [w if isinstance(w, int) else g for w, g in zip(declared, got, strict=True)]
            raise BadModel(
                f"input {name!r} is fixed to {show(declared)} by the model, but its shape was given as {show(got)}",
                at=at, hint=f"use --shape {name}={','.join(map(str, fixed))}, or export the model with that dimension open",
            )  # fmt: skip
    return got


def symbols(declared: Mapping[str, list[Dim] | None], given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """What each named dimension is; none where the given shapes disagree, for then the file's name means nothing."""
    seen: dict[str, set[int]] = {}
    for name, shape in given.items():
        for dim, extent in zip(declared[name] or [], shape, strict=False):
            if isinstance(dim, str):
                seen.setdefault(dim, set()).add(extent)
    return {dim: extents.pop() for dim, extents in seen.items() if len(extents) == 1}


def resolve(declared: list[Dim] | None, meaning: Mapping[str, int]) -> tuple[int, ...] | None:
    if declared is None:
        return None
    shape = [meaning.get(dim) if isinstance(dim, str) else dim for dim in declared]
    return None if None in shape else tuple(extent for extent in shape if extent is not None)


def missing_shapes(names: list[str], declared: Mapping[str, list[Dim] | None], meaning: Mapping[str, int], at: str) -> BadModel:
    listed = "; ".join(f"{name!r} is {show(declared[name])}" for name in names)
    what = "an input's shape is" if len(names) == 1 else f"the shapes of {len(names)} inputs are"
    flags = " ".join(f"--shape {name}={','.join(map(str, suggest(declared[name], meaning)))}" for name in names)
    return BadModel(f"{what} not fixed: {listed}", at=at, hint=f"add {flags} (with the sizes that you want)")


def suggest(declared: list[Dim] | None, meaning: Mapping[str, int]) -> list[int]:
    """Plausible sizes to show in a hint: a batch of 1, an image of 224 x 224, otherwise 128 steps."""
    if declared is None:
        return [1, 3, 224, 224]
    open_size = [1] + [224 if len(declared) >= 4 else 128] * len(declared)
    return [dim if isinstance(dim, int) else meaning.get(dim or "", open_size[i]) for i, dim in enumerate(declared)]


def show(shape: Sequence[Dim] | None) -> str:
    return "of unknown rank" if shape is None else f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
