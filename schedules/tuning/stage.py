"""What one stage of a program costs, by simple models of the parts of a core: the cost model's features are made of these.

in:  a LoopNest, the Machine
out: registers, loads and operations of the tile; cycles by what a core may be waiting for; bytes that enter each cache
"""

from collections.abc import Callable, Sequence

import numpy as np

from schedules.loopnest import Column, Loop, LoopNest
from schedules.machine import Machine
from schedules.tuning.reuse import as_column, product, reuse

FMA_CYCLES = 4  # from one multiply-add to the next that needs its sum
LOADS = 2  # a cycle
L2_BYTES, L3_BYTES = 48.0, 12.0  # a cycle into the first level, into the second
COSTS = ("cycles", "compute", "l1", "l2", "l3", "memory")


class Stage:
    """One nest on one machine: what it costs by simple models of the parts of a core, and what decides that."""

    def __init__(self, nest: LoopNest, machine: Machine) -> None:
        self.nest, self.machine = nest, machine
        self.extents = [as_column(loop.extent) for loop in nest.loops]
        self.reuse = reuse(nest)
        self.item = max(operand.item_bytes for operand in nest.operands)
        self.tile()
        self.estimate()

    def trips(self, which: Callable[[Loop], bool]) -> Column:
        """Iterations of some of the loops together."""
        return as_column(product([extent for loop, extent in zip(self.nest.loops, self.extents, strict=True) if which(loop)]))

    def tile(self) -> None:
        """What one turn of the innermost loops does: operations, loads and registers."""
        nest, width = self.nest, self.machine.vector_bytes
        self.parallel = self.trips(lambda loop: loop.kind == "parallel")
        self.unrolled = self.trips(lambda loop: loop.kind == "unrolled")
        vector = self.trips(lambda loop: loop.kind == "vector")
        self.width = vector
        pieces = np.ceil(vector * self.item / width)
        self.filled = np.where(vector > 1, vector * self.item / (pieces * width), self.item / width)
        self.operations = self.unrolled * pieces
        self.turns = as_column(product(self.extents)) / (self.unrolled * vector)
        self.vectors = self.operations * self.turns
        self.accumulators, self.vector_loads, self.broadcasts, self.scattered, self.stores = (np.zeros(()) for _ in range(5))
        self.held = np.zeros(())
        for operand in nest.operands:
            moved = {name for index in operand.dims for name in index}
            copies = self.trips(lambda loop, moved=moved: loop.kind == "unrolled" and loop.name in moved)  # type: ignore[misc]  # mypy knows no types of defaults
            lanes = [loop.name for loop in nest.loops if loop.kind == "vector"]
            along = any(name in moved for name in lanes)
            last = operand.dims[-1] if operand.dims else {}
            near = along and all(name in last for name in lanes if name in moved)
            step = np.max([np.max(np.abs(as_column(last[name]))) for name in lanes if name in last], initial=1.0)
            if operand.role == "accumulate":
                self.accumulators = self.accumulators + copies * (pieces if along else 1)
            elif operand.role == "write":
                self.stores = self.stores + copies * (pieces if near and step == 1 else vector)
            elif not along:
                self.broadcasts = self.broadcasts + copies
            elif near and step == 1:
                self.vector_loads = self.vector_loads + copies * pieces
                self.held = self.held + copies * pieces
            else:
                self.scattered = self.scattered + copies * vector
        self.depth = self.trips(lambda loop: loop.reduces and loop.kind in ("serial", "parallel"))
        self.stores = self.stores + self.accumulators / self.depth
        self.loads = self.vector_loads + self.broadcasts + self.scattered

    def estimate(self) -> None:
        """Cycles of one core, by what it may be waiting for."""
        machine = self.machine
        self.registers = self.accumulators + np.minimum(self.held, 4) + 1
        self.spilled = np.maximum(0, self.registers - machine.vector_registers)
        chains = np.where(self.accumulators > 0, np.maximum(1, FMA_CYCLES * machine.fma_ports / np.maximum(self.accumulators, 1)), 1)
        share = np.ceil(self.parallel / machine.cores) / self.parallel  # of the work, done by the core that has most
        self.balance = share * machine.cores
        cores = np.minimum(machine.cores, self.parallel)
        into = [self.reuse.traffic(bytes_) for bytes_ in (machine.l1_bytes, machine.l2_bytes, machine.l3_bytes)]
        self.into = into
        l1, l2, l3 = (sum(level, np.zeros(())) for level in into)
        ghz_bytes = machine.bandwidth / (machine.ghz * 1e9)
        compute = self.vectors / machine.fma_ports * chains
        memory = (self.loads + 2 * self.spilled + self.stores) * self.turns / LOADS
        cost = {
            "compute": compute * share,
            "l1": memory * share,
            "l2": l1 / L2_BYTES * share,
            "l3": l2 / L3_BYTES * share,
            "memory": l3 / ghz_bytes / cores,
        }
        overhead = self.turns * share  # a counter, a jump
        core = np.maximum(cost["compute"], cost["l1"]) + overhead
        cost["cycles"] = np.maximum(core + 0.5 * (cost["l2"] + cost["l3"]), cost["memory"])
        self.cost = {name: as_column(value) for name, value in cost.items()}

    def by_role(self, bytes_: Sequence[Column], role: str) -> Column:
        """Of the operand that is read in whole vectors (read0), of the others (read1), or of what is written."""
        lanes = {loop.name for loop in self.nest.loops if loop.kind == "vector"}
        total = np.zeros(())
        for operand, amount in zip(self.nest.operands, bytes_, strict=True):
            along = any(lanes & set(index) for index in operand.dims)
            own = "out" if operand.role != "read" else "read0" if along else "read1"
            if own == role:
                total = total + amount
        return total
