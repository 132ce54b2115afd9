"""The ways a model's graph can go, the programs they lead to, and which way costs least as a whole.

variants = Variants(graph, "x86", "f32")
variants.base, variants.extra       # programs of the graph as it is, and those that other ways would call
variants.cheapest(costs)            # -> ({"attention/0": "separate"}, seconds)
"""

from collections.abc import Callable, Mapping
from statistics import median

import tvm

from relay_passes.choices import Choices
from schedules.tuning.assign import assign, turned_kinds, turned_places
from schedules.tuning.jobs import Work, collect
from stack.graph import Graph

MOST_TURNED = 24  # graphs whose programs become tasks


class Variants:
    """`target` is the name that the user gave, which workers will look up."""

    def __init__(self, graph: Graph, target: str, precision: str) -> None:
        self.graph, self.target, self.precision = graph, target, precision
        choices = Choices()
        self.module = graph.programs(choices)
        self.places = dict(choices.places)
        self.base = self.collect(self.module, {})
        self.works = dict(self.base)
        self.found: dict[frozenset[tuple[str, str]], Mapping[str, Work]] = {frozenset(): self.base}
        self.extra = self.explore()

    def collect(self, module: tvm.IRModule, known: Mapping[str, Work]) -> dict[str, Work]:
        family, machine = self.graph.family, self.graph.target.machine
        return collect(module, family.rules, machine, self.target, self.precision, known)

    def programs(self, decided: Mapping[str, str]) -> Mapping[str, Work]:
        """What the graph calls, and how often, where it goes as `decided`."""
        key = frozenset(decided.items())
        if key not in self.found:
            works = self.collect(self.graph.programs(Choices(decided)), self.works)
            self.works.update((name, work) for name, work in works.items() if name not in self.works)
            self.found[key] = works
        return self.found[key]

    def explore(self) -> dict[str, Work]:
        """Programs that turning each kind of places leads to, and as far as these are not many each place alone."""
        turned = turned_kinds(self.places)
        single = turned_places(self.places)
        if len(turned) + len(single) <= MOST_TURNED:
            turned += single
        extra: dict[str, Work] = {}
        for decided in turned:
            for key, work in self.programs(decided).items():
                if key not in self.base and work.task.calls > (extra[key].task.calls if key in extra else 0):
                    extra[key] = work
        return extra

    def cheapest(self, known: Mapping[str, float]) -> tuple[dict[str, str], float]:
        """The way that costs least by what was measured; a program that was not is taken to be as quick as most of the others."""
        if not self.places:
            return {}, self.cost(known, {})
        return assign(self.places, lambda decided: self.cost(known, decided))

    def cost(self, known: Mapping[str, float], decided: Mapping[str, str]) -> float:
        estimate = self.estimator(known)
        return sum(work.task.calls * (known[key] if key in known else estimate(work)) for key, work in self.programs(decided).items())

    def estimator(self, known: Mapping[str, float]) -> Callable[[Work], float]:
        each = median([cost / size(self.works[key]) for key, cost in known.items() if key in self.works] or [0.0])
        return lambda work: each * size(work)


def size(work: Work) -> float:
    """Operations and bytes together: what an unmeasured program is judged by."""
    return max(work.flops + work.bytes, 1)
