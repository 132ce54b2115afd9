"""Read the scheduled main as layers over buffers: what the planner places and the C project prints.

in:  main in the form of `CallTIRRewrite`: f(x, constants, out) over parameters, allocated tensors and views, and programs with kernels
out: Network: buffers with their lives, one Layer per call, constants by name, and where states come from and go to
"""

import json
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst

from relay_passes.plan_memory import ALLOC, RESHAPE, is_op, nbytes
from schedules import integer
from stack.emit.arena import Buffer, Overlap
from stack.emit.program import Constants, Program, tensor
from stack.frontends.model import Signature, State
from stack.manifest import Tensor


@dataclass(eq=False)
class Weight:
    """A constant operand; `name` is its C identifier, `memory` the flash it lies in, where there are several."""

    name: str
    array: np.ndarray
    memory: int = 0


@dataclass(frozen=True)
class Held:
    """A state, in the caller's struct."""

    state: State
    bytes: int


Operand = Buffer | Weight | Held


@dataclass(frozen=True)
class Layer:
    """One call. `kernel` is None for a copy from the first operand to the second."""

    kernel: str | None
    operands: tuple[Operand, ...]
    shapes: str
    macs: int

    @property
    def weight_bytes(self) -> int:
        return sum(operand.array.nbytes for operand in self.operands if isinstance(operand, Weight))


@dataclass
class Network:
    """A whole model. Inputs and outputs are buffers as well: the caller may write and read them in place."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    states: list[State]
    input_buffers: list[Buffer] = field(default_factory=list)
    output_buffers: list[Buffer] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)


def read_network(module: tvm.IRModule, signature: Signature, name: str) -> Network:
    """The layers of `module["main"]`; `place_network` then places them. `name` begins the identifiers of weights."""
    reader = Reader(module, signature, name)
    reader.read()
    return reader.network


def is_reshape(call: relax.Call, module: tvm.IRModule) -> bool:
    """Whether a call leaves every element where it is. TVM's analysis also says so of the first rows of a tensor."""
    return len(call.args) == 2 and nbytes(call.args[0]) == nbytes(call.args[1]) and relax.analysis.has_reshape_pattern(module[call.op])


class Reader:
    def __init__(self, module: tvm.IRModule, signature: Signature, name: str) -> None:
        self.module, self.main, self.name = module, module["main"], name
        inputs, states = len(signature.input_names), signature.states
        self.parameters = list(self.main.params)
        self.network = Network(
            inputs=[tensor(title, var) for title, var in zip(signature.input_names, self.parameters[:inputs], strict=True)],
            outputs=[],
            states=states,
        )
        self.signature = signature
        self.bindings = [binding for block in self.main.body.blocks for binding in block.bindings]
        self.views = {b.var: b.value.args[0] for b in self.bindings if is_op(b.value, RESHAPE)}
        self.calls = [b.value for b in self.bindings if isinstance(b.value, relax.Call) and isinstance(b.value.op, tvm.ir.GlobalVar)]
        self.views |= {call.args[1]: call.args[0] for call in self.calls if is_reshape(call, module)}
        self.operands: dict[relax.Var, Operand] = {}
        self.constants, self.seen = Constants(), Program([], [])
        self.names: dict[int, Weight] = {}
        self.kernels: dict[str, str] = {}  # name by C text: programs that differ in what no line of C shows share a function
        for index, var in enumerate(self.parameters[:inputs]):
            self.operands[var] = self.buffer(var, self.network.inputs[index].name, -1)
            self.network.input_buffers.append(self.network.buffers[-1])
        for state, var in zip(states, self.parameters[inputs:], strict=True):
            self.operands[var] = Held(state, nbytes(var))
        following = zip(self.parameters[inputs:], self.returned()[len(signature.output_names) :], strict=True)
        self.waiting = {var: value for var, value in following if not self.root(value).same_as(var)}  # next states, by the last ones

    def buffer(self, var: relax.Var, name: str, first: int) -> Buffer:
        made = Buffer(name, nbytes(var), first, first, align=max(4, tvm.DataType(var.ty.dtype.dtype).itemsize))
        self.network.buffers.append(made)
        return made

    def root(self, value: relax.Expr) -> relax.Expr:
        while value in self.views:
            value = self.views[value]
        return value

    def returned(self) -> list[relax.Expr]:
        """Outputs, then next states."""
        result = self.main.body.body  # as it is: a reshape at the end gives an output its shape
        tuples = {b.var: list(b.value.fields) for b in self.bindings if isinstance(b.value, relax.Tuple)}
        return list(result.fields) if isinstance(result, relax.Tuple) else tuples.get(result, [result])

    def write_states(self, done: int) -> None:
        """Copy to where it is held each next state that is there, if no call after so many reads the last one."""
        if not self.waiting:
            return
        needed = {self.root(argument) for call in self.calls[done:] for argument in call.args} | set(map(self.root, self.returned()))
        for var, value in list(self.waiting.items()):
            source = self.operands.get(self.root(value))
            if var not in needed and isinstance(source, Buffer):
                self.copy(source, self.operands[var])
                del self.waiting[var]

    def read(self) -> None:
        for binding in self.bindings:
            value = binding.value
            if is_op(value, ALLOC):
                continue  # it becomes a buffer when it is written
            if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar):
                if value.args[-1] not in self.views:
                    self.layer(value)
                    self.write_states(self.calls.index(value) + 1)
            else:
                assert binding.var in self.views or isinstance(value, relax.Tuple), f"cannot emit {value}"
        self.results()

    def layer(self, call: relax.Call) -> None:
        step = len(self.network.layers)
        program = self.module[call.op]
        result = call.args[-1]
        out = self.operands[result] = self.buffer(result, f"output of layer {step + 1}", step)
        operands = [self.operand(argument, step, place) for place, argument in enumerate(call.args)]
        for operand in operands:
            if isinstance(operand, Buffer):
                operand.last = max(operand.last, step)
        if scratch := int(program.attrs.get("stack.scratch", 0)):
            self.network.buffers.append(Buffer(f"scratch of layer {step + 1}", scratch, step, step, align=8, scratch=True))
            operands.append(self.network.buffers[-1])
        self.permit(program, operands, out)
        op = integer.read(program)
        macs = op.macs if op else 0
        activations = [argument for argument in call.args if not isinstance(argument, GenericConst)]
        *read, written = (str(list(map(int, argument.ty.shape))).replace(" ", "") for argument in activations)
        kernel = self.kernels.setdefault(str(program.attrs["stack.c"]), call.op.name_hint)
        self.network.layers.append(Layer(kernel, tuple(operands), f"{' '.join(read)} -> {written}", macs))

    def permit(self, program: tirx.PrimFunc, operands: list[Operand], out: Buffer) -> None:
        """Note where the output may lie over an input."""
        allowed = json.loads(str(program.attrs.get("stack.overlap", "{}")))
        for index, (distance, exact) in allowed.items():
            under = operands[int(index)]
            if isinstance(under, Buffer) and under is not out and sum(operand is under for operand in operands) == 1:
                self.network.overlaps.append(Overlap(out, under, distance, exact))

    def operand(self, value: relax.Expr, step: int, place: int) -> Operand:
        value = self.root(value)
        if not isinstance(value, GenericConst):
            return self.operands[value]
        array = value.value.numpy()
        offset = self.constants.place(array, self.seen).index
        if offset not in self.names:
            self.names[offset] = Weight(f"{self.name}_layer{step + 1}_{'abcdefghijklmnop'[place]}", array)
            self.network.weights.append(self.names[offset])
        return self.names[offset]

    def results(self) -> None:
        """Outputs live to the end; next states are copied to where they are held; what is no buffer of its own yet is copied to one."""
        returned = self.returned()
        names = self.signature.output_names
        self.network.outputs = [tensor(title, value) for title, value in zip(names, returned[: len(names)], strict=True)]
        sources = [self.operand(value, len(self.network.layers), 0) for value in returned]
        for title, value, source in zip(names, returned, sources, strict=False):
            if not isinstance(source, Buffer) or source in self.network.input_buffers or source in self.network.output_buffers:
                copy = self.buffer(value, title, len(self.network.layers))
                self.copy(source, copy)
                source = copy
            source.name = title
            self.network.output_buffers.append(source)
        moves = {var: self.operand(value, len(self.network.layers), 0) for var, value in self.waiting.items()}
        for var, source in moves.items():
            if isinstance(source, Held):  # what another state was: put it aside before that is written
                moves[var] = self.buffer(var, f"next {source.state.name}", len(self.network.layers))
                self.copy(source, moves[var])
        for var, source in moves.items():
            self.copy(source, self.operands[var])
        for buffer in self.network.output_buffers:
            buffer.last = len(self.network.layers)

    def copy(self, source: Operand, to: Operand) -> None:
        for operand in (source, to):
            if isinstance(operand, Buffer):
                operand.last = max(operand.last, len(self.network.layers))
        self.network.layers.append(Layer(None, (source, to), "", 0))
