"""The tasks of one module for a caller's precision, and what a runner is handed to measure each.

in:  IRModule, Relax main that calls unscheduled TensorIR programs
out: {key: Work(task, job, flops, bytes)}, those with a single point too; a program that is called under two names once
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst

from schedules.machine import Machine
from schedules.rule import Rule, first_space
from schedules.space import Point, Space
from schedules.tuning.measurement import Job
from schedules.tuning.task import Task, program_key
from schedules.work import count_work

FULL = "f32"  # the precision that every space has


@dataclass(frozen=True)
class Work:
    """One program to measure: its task, what the runner gets, and how much it computes and moves at least."""

    task: Task
    job: Job = field(repr=False)
    flops: int
    bytes: int


def precision_of(point: Point) -> str:
    """What a user must allow for this point: "bf16" for all the ways to compute in it."""
    return str(point.get("precision", FULL)).partition("_")[0]


def allowed(point: Point, precision: str) -> bool:
    """Whether a point keeps the precision that a caller asked for: others than float32 are for those who ask."""
    return precision_of(point) in (FULL, precision)


def restricted(space: Space, precision: str) -> Space:
    """The points of `space` that keep the precision."""
    if "precision" not in space.knobs:
        return space
    kept = tuple(value for value in space.knobs["precision"] if allowed({"precision": value}, precision))
    return replace(space, knobs={**space.knobs, "precision": kept})


def adapted(point: Point, space: Space) -> Point:
    """`point` with the knob for the precision where `space` has one and without it elsewhere: float32 is meant where nothing is said."""
    if "precision" in space.knobs:
        return {"precision": FULL, **point}
    return {name: value for name, value in point.items() if name != "precision" or value != FULL}


def collect(
    module: tvm.IRModule,
    rules: Sequence[Rule],
    machine: Machine,
    target: str,
    precision: str = FULL,
    known: Mapping[str, Work] | None = None,
) -> dict[str, Work]:
    """What there is to measure in `module`, in the order of the first calls. Programs that are `known` are not looked at again."""
    main = module["main"]
    found: dict[str, Work] = {}
    keys: dict[str, str] = {}
    for call in (binding.value for block in main.body.blocks for binding in block.bindings):
        if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.GlobalVar):
            continue
        name = call.op.name_hint
        program = module[call.op]
        if not isinstance(program, tirx.PrimFunc):
            continue
        key = keys.get(name) or keys.setdefault(name, program_key(program))
        if key in found:
            found[key] = calls(found[key], found[key].task.calls + 1)
        elif known and key in known:
            found[key] = calls(known[key], 1)
        else:
            found[key] = work_of(key, name, program, restricted(first_space(rules, program, machine), precision), call, target)
    return found


def work_of(key: str, name: str, program: tirx.PrimFunc, space: Space, call: relax.Call, target: str) -> Work:
    constant = [isinstance(argument, GenericConst) for argument in call.args]
    constants = [argument.value.numpy() for argument in call.args if isinstance(argument, GenericConst)]
    precision = precision_of({"precision": space.knobs["precision"][-1]}) if "precision" in space.knobs else FULL
    job = Job(key, name, tvm.ir.save_json(tvm.IRModule({"main": program})), target, constant, constants, precision)
    work = count_work(program)
    return Work(Task(key, name, program, space, 1, constants), job, work.flops, work.bytes)


def calls(work: Work, count: int) -> Work:
    """The same program, called `count` times."""
    return replace(work, task=replace(work.task, calls=count))
