"""Read the final Relax main as a straight list of calls: what the C emitter prints and the profiler names.

in:  main after `plan_memory`: kernel calls over arguments, constants, views (reshape), tensors in the arena, and tensors to return
out: Program: inputs, outputs, weights with offsets, arena size, and one Step per kernel call
"""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from relay_passes.join_in_place import ALIGN
from relay_passes.plan_memory import ALLOC, RESHAPE, is_op
from stack.manifest import Tensor


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: `kind` is in, out, weights or arena; `index` a position (in, out) or a byte offset (weights, arena)."""

    kind: str
    index: int


@dataclass(frozen=True)
class Step:
    """One kernel call, or where `kernel` is None a copy of `bytes` from the first place to the second."""

    kernel: str | None
    arguments: tuple[Place, ...]
    bytes: int = 0


@dataclass
class Program:
    inputs: list[Tensor]
    outputs: list[Tensor]
    steps: list[Step] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    weight_bytes: int = 0
    arena_bytes: int = 0

    def add_weight(self, array: np.ndarray) -> int:
        """Append a constant; returns its offset."""
        offset = -(-self.weight_bytes // ALIGN) * ALIGN
        self.weights.append(array)
        self.weight_bytes = offset + array.nbytes
        return offset

    def write_weights(self, file: Path) -> None:
        """The constants at their offsets, each straight from where it lies: networks hold hundreds of megabytes."""
        with file.open("wb") as stream:
            for array in self.weights:
                stream.write(b"\0" * (-stream.tell() % ALIGN))
                stream.write(raw(array).data)


def said_of(program: tvm.tirx.PrimFunc) -> dict[str, object]:
    """What the manifest says of a scheduled program, for the profiler."""
    attributes = program.attrs
    return {
        "rule": str(attributes["stack.rule"]),
        "decision": json.loads(str(attributes["stack.decision"])),
        "source": str(attributes.get("stack.source", "default")),
        "flops": int(attributes["stack.flops"]),
        "bytes": int(attributes["stack.bytes"]),
    }


class Constants:
    """Find the constants that were seen before, by value; nothing is copied to compare them."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, tuple[int, ...], int], list[tuple[np.ndarray, Place]]] = {}

    def place(self, array: np.ndarray, program: Program) -> Place:
        """Where `array` lies in the weights of `program`, which it is added to unless its equal is there."""
        alike = self.seen.setdefault((str(array.dtype), array.shape, zlib.crc32(raw(array).data)), [])
        for other, place in alike:
            if np.array_equal(raw(array), raw(other)):  # of the bytes: no NaN equals itself, and -0 equals 0
                return place
        alike.append((array, Place("weights", program.add_weight(array))))
        return alike[-1][1]


def raw(array: np.ndarray) -> np.ndarray:
    """The bytes of a dense array, not copied."""
    return array.reshape(-1).view(np.uint8)


def view(value: tvm.runtime.Tensor) -> np.ndarray:
    """The values of a constant, copied only where numpy by itself has no such type."""
    return value.numpy() if value.dtype == "bfloat16" else np.from_dlpack(value)


def tensor(name: str, expr: relax.Expr) -> Tensor:
    return Tensor(name, tuple(int(extent) for extent in expr.ty.shape), str(expr.ty.dtype.dtype))


def read_program(module: tvm.IRModule, input_names: list[str], output_names: list[str]) -> Program:
    """Read `module["main"]`; names are the model's own, in order."""
    main = module["main"]
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    tuples = {b.var: list(b.value.fields) for b in bindings if isinstance(b.value, relax.Tuple)}
    result = main.body.body
    returned = list(result.fields) if isinstance(result, relax.Tuple) else tuples.get(result, [result])
    program = Program(
        inputs=[tensor(name, var) for name, var in zip(input_names, main.params, strict=True)],
        outputs=[tensor(name, value) for name, value in zip(output_names, returned, strict=True)],
    )
    views = {b.var: b.value.args[0] for b in bindings if is_op(b.value, RESHAPE)}
    places: dict[relax.Var, Place] = {var: Place("in", index) for index, var in enumerate(main.params)}
    constants = Constants()

    def root(value: relax.Expr) -> relax.Expr:
        while value in views:
            value = views[value]
        return value

    def place(value: relax.Expr) -> Place:
        value = root(value)
        if not isinstance(value, GenericConst):
            return places[value]
        return constants.place(view(value.value), program)

    copies = []  # outputs that are an input, a constant, or another output
    for index, value in enumerate(returned):
        source = root(value)
        if isinstance(source, GenericConst) or source in places:
            copies.append((index, source, program.outputs[index]))
        else:
            places[source] = Place("out", index)

    for binding in bindings:
        value = binding.value
        if is_op(value, "relax.memory.alloc_storage"):
            program.arena_bytes = int(value.args[0].values[0])
        elif is_op(value, "relax.memory.alloc_tensor"):
            assert binding.var not in places, f"{binding.var} is returned, and cannot lie in the arena"
            places[binding.var] = Place("arena", int(value.args[1]))
        elif is_op(value, ALLOC):
            assert binding.var in places, f"{binding.var} is neither returned nor in the arena"
        elif isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar):
            program.steps.append(Step(value.op.name_hint, tuple(place(argument) for argument in value.args)))
        else:
            assert binding.var in views or binding.var in tuples, f"cannot emit {value}"
    for index, source, out in copies:
        size = int(np.prod(out.shape, dtype=np.int64)) * tvm.DataType(out.dtype).itemsize
        program.steps.append(Step(None, (place(source), Place("out", index)), size))
    return program
