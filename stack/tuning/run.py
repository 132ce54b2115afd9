"""One run of tuning: what the database knows of the model's programs, the search that adds to it, and what comes out.

run = Run(variants, database, "f32", Budget(trials=500), seed=0, tell=print)
run.search(runner)     # -> why it ended; every measurement is in the database
run.choose()           # -> which way the graph passes go, kept there as well
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from schedules.space import Point
from schedules.tuning.cost_model import CostModel
from schedules.tuning.database import Database, Record
from schedules.tuning.jobs import Work, adapted, allowed, precision_of
from schedules.tuning.measurement import Measurement, Runner
from schedules.tuning.rounds import Budget, Rounds, State
from schedules.tuning.strategy import Learned
from stack.decide import scope_of, tuned_folder
from stack.roofline import Limits, measure
from stack.tuning.about import About
from stack.tuning.graph import Variants
from stack.tuning.progress import Progress, TaskRow
from stack.tuning.session import Session, session_key

BATCHES = range(4, 17)  # points of one proposal: what comes to a quarter of a program's share of the trials, within these
VARIANT = 0.5  # what a call counts that only another way of the graph makes, until that way is chosen


class Run:
    """States of all tasks, filled with what was measured before."""

    def __init__(
        self,
        variants: Variants,
        database: Database,
        precision: str,
        budget: Budget,
        seed: int,
        tell: Callable[[Progress], None],
        on_board: bool = False,
    ) -> None:
        target = variants.graph.target
        self.variants, self.database, self.precision, self.budget, self.tell = variants, database, precision, budget, tell
        self.scope = scope_of(target)
        self.seconds_are_costs = variants.graph.family.container == "native"
        self.unit = "seconds" if self.seconds_are_costs else "cycles" if on_board else "instructions"
        self.outranked = False  # a board said what costs how much, and QEMU counts now
        self.states = {key: self.state(work, work.task.calls) for key, work in variants.base.items()}
        self.states |= {key: self.state(work, VARIANT * work.task.calls) for key, work in variants.extra.items()}
        self.session = Session.open(database, session_key(variants.graph.key, self.scope, precision, on_board), budget, seed)
        self.strategy = Learned(target.machine, CostModel.load(tuned_folder(target.family)), seed)
        self.began, self.resumed_at = time.monotonic(), self.session.trials
        self.failures: Counter[str] = Counter()

    def state(self, work: Work, weight: float) -> State:
        state = State(work, weight)
        for record in self.database.records(work.task.key, self.scope):
            if record.unit != self.unit:
                self.outranked |= record.unit == "cycles"
                continue
            point = adapted(record.point, work.task.space)
            if work.task.space.holds(point) and allowed(point, self.precision):
                state.learn(replace(record, point=point))
        state.barren, state.failures = 0, Counter()
        return state

    def search(self, runner: Runner) -> str:
        """Measure until the budget is used or nothing is to be gained."""
        assert runner.unit == self.unit, "costs are compared with those that are known"
        for state in self.states.values():
            task = state.work.task
            self.database.add_program(task.key, task.name, task.space.rule, state.work.job.program)
        self.began = time.monotonic()
        rounds = Rounds(
            states=list(self.states.values()),
            runner=runner,
            make=self.record,
            keep=self.database.record,
            strategy=self.strategy,
            budget=self.budget,
            batch=self.batch(),
            on_change=self.changed,
            trials=self.session.trials,
            seconds=self.session.seconds,
        )
        self.session.save()
        with ThreadPoolExecutor(1) as aside:
            limits = aside.submit(self.find_limits) if self.seconds_are_costs else None  # while the builders start
            stopped = rounds.run()
        if limits:
            limits.result()
        self.changed(rounds)
        return stopped

    def find_limits(self) -> None:
        """What no schedule of each task can go below; on a busy machine that may say too little."""
        limits = measure(threads=1)
        best = Limits(max(limits.flops, self.variants.graph.target.machine.peak_flops), limits.bandwidths)
        for state in self.states.values():
            state.least = best.seconds(state.work.flops, state.work.bytes)

    def finish(self, stopped: str) -> None:
        """The budget was used and the model checked: the same call gets another one from now on."""
        self.session.finished = stopped
        self.session.save()

    def batch(self) -> int:
        """Points of one proposal: few where there are few trials, so that more programs get some; many cost less to propose."""
        tunable = max(1, sum(state.work.task.space.size > 1 for state in self.states.values()))
        share = 2 * BATCHES[0] if self.budget.trials is None else self.budget.trials // (4 * tunable)
        return min(max(share, BATCHES[0]), BATCHES[-1])

    def close(self) -> None:
        self.session.save()
        self.session.save_log(now=True)

    def record(self, state: State, point: Point, measurement: Measurement) -> Record:
        failed = measurement.failure is not None or not math.isfinite(measurement.cost)
        if measurement.failure:
            self.failures[measurement.failure] += 1
        return Record(
            program=state.key,
            rule=state.work.task.space.rule,
            scope=self.scope,
            point=point,
            cost=None if failed else measurement.cost,
            unit=self.unit,
            spread=0.0 if failed else measurement.spread,
            settled=measurement.settled,
            failure=measurement.failure,
            detail=measurement.detail[:500],
            device=measurement.device,
            precision=precision_of(point),
        )

    def changed(self, rounds: Rounds) -> None:
        grown = rounds.trials != self.session.trials
        self.session.trials, self.session.seconds, self.session.random = rounds.trials, rounds.seconds, self.strategy.random_state()
        progress = self.progress("measure")
        if grown:
            self.session.log["rounds"] += [{"trials": rounds.trials, **entry} for entry in self.strategy.log]
            self.session.log["predicted"] += self.strategy.predicted
            self.strategy.log, self.strategy.predicted = [], []
            self.session.log["latency"].append([rounds.trials, round(rounds.seconds, 2), progress.latency])
            self.session.save()
            self.session.save_log()
        self.tell(progress)

    def progress(self, stage: str) -> Progress:
        return Progress(
            stage=stage,
            unit=self.unit,
            rows=[self.row(state) for state in self.states.values()],
            trials=self.session.trials,
            most_trials=self.budget.trials,
            seconds=self.session.seconds,
            most_seconds=self.budget.seconds,
            made=self.session.trials - self.resumed_at,
            lasted=time.monotonic() - self.began,
            failures=dict(self.failures),
            resumed=self.session.resumed,
        )

    def row(self, state: State) -> TaskRow:
        task, base = state.work.task, self.variants.base
        return TaskRow(
            key=task.key,
            name=task.name,
            rule=task.space.rule,
            calls=base[task.key].task.calls if task.key in base else 0,
            points=task.space.size,
            default=state.default,
            best=state.cost,
            now=state.now,
            least=state.least,
            trials=state.trials,
        )

    def known(self) -> dict[str, float]:
        return {key: state.cost for key, state in self.states.items() if state.cost is not None}

    def latency(self, choices: Mapping[str, str]) -> float:
        return self.variants.cost(self.known(), choices)

    def start(self) -> float:
        """What the model cost with the defaults, estimated as `latency` is where one was not measured."""
        return self.variants.cost({key: state.default or cost for key, cost in self.known().items() for state in [self.states[key]]}, {})

    def choose(self) -> dict[str, str]:
        """The cheapest way through the graph, which compiling takes from then on; as on the board, where it was measured there."""
        if not self.variants.places:
            return {}
        if self.outranked and (decided := self.database.graph(self.variants.graph.key, self.scope)) is not None:
            return decided
        return self.keep_choices(self.variants.cheapest(self.known())[0])

    def keep_choices(self, choices: dict[str, str]) -> dict[str, str]:
        self.database.save_graph(self.variants.graph.key, self.scope, choices, self.latency(choices))
        return choices

    def about(self, model: str, target: str, choices: Mapping[str, str]) -> About:
        """All that the page shows, as the database has it now."""
        known = (record for key in self.states for record in self.database.records(key, self.scope))
        records = sorted((record for record in known if record.unit == self.unit), key=lambda each: each.moment)
        return About(
            model=model,
            target=target,
            device=", ".join(sorted({record.device for record in records if record.device})),
            unit=self.unit,
            rows=self.progress("check").rows,
            records=records,
            defaults={key: state.work.task.space.default for key, state in self.states.items()},
            best={key: state.best for key, state in self.states.items() if state.best},
            log=self.session.log,
            choices=choices,
        )
