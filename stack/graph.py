"""A model on its way to one target: as its file says, and as the tensor programs that the graph passes make of it.

graph = read("resnet18.onnx", target, family_of(target), {})
module = graph.programs(Choices())      # Relax main that calls unscheduled TensorIR programs
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import tvm
import tvm_ffi

from relay_passes.choices import Choices
from stack.frontends.load import load
from stack.frontends.model import Signature
from stack.trace import instruments
from targets.target import Family, Target

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Graph:
    """The model in Relax, before any pass."""

    module: tvm.IRModule = field(repr=False)
    signature: Signature
    target: Target
    family: Family

    @property
    def key(self) -> str:
        """The same 16 digits for the same graph, whatever its weights are: what choices of the graph passes are kept under."""
        return f"{tvm_ffi.structural_hash(self.module['main'], map_free_vars=True, skip_tensor_content=True) & (1 << 64) - 1:016x}"

    def programs(self, choices: Choices, on_progress: Report = lambda done, total: None) -> tvm.IRModule:
        """The graph after all passes, which ask `choices` where they can go more than one way."""
        module, machine = self.module, self.target.machine
        passes = self.family.graph_passes(machine, choices)
        with tvm.transform.PassContext(instruments=instruments()):
            for done, graph_pass in enumerate(passes):  # Relax -> Relax that calls TensorIR
                on_progress(done, len(passes))
                module = graph_pass(module)
        if self.family.container == "c":
            from stack.lower_peak import lower_peak

            module = lower_peak(module, self.signature, self.target, self.family.rules, choices)
        return module


def read(model: str | Path | bytes | onnx.ModelProto, target: Target, family: Family, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """Import a model for `target`; StackError where it cannot be read or is not supported."""
    network = load(model, shapes)
    return Graph(network.module, network.signature(), target, family)
