"""Show what the graph passes do: their time, whether anything changed, the IR after each change; as the variables in `knobs` ask."""

import sys
import time
from pathlib import Path

import tvm
from tvm.ir import IRModule
from tvm.ir.instrument import PassInstrument
from tvm.ir.transform import PassInfo
from tvm_ffi import structural_equal

from stack import knobs


@tvm.instrument.pass_instrument
class Trace:
    """Count the passes as they finish; print a line for each and write the module after each that changed it."""

    def __init__(self, level: int, folder: Path | None, skip: frozenset[str]) -> None:
        self.level, self.folder, self.skip = level, folder, skip
        self.finished = 0
        self.running: list[tuple[IRModule, float]] = []  # a stack, since one pass may run others

    def should_run(self, _module: IRModule, info: PassInfo) -> bool:
        return info.name not in self.skip

    def run_before_pass(self, module: IRModule, _info: PassInfo) -> None:
        self.running.append((module, time.perf_counter()))

    def run_after_pass(self, module: IRModule, info: PassInfo) -> None:
        before, started = self.running.pop()
        milliseconds = 1e3 * (time.perf_counter() - started)
        self.finished += 1
        changed = (self.level or self.folder) and not structural_equal(before, module)
        if self.level:
            print(f"{self.finished:3} {info.name:32} {milliseconds:8.1f} ms{'' if changed else '  unchanged'}", file=sys.stderr)
        if self.folder and changed:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{self.finished:03}_{info.name}.py").write_text(module.script())


def instruments() -> list[PassInstrument]:
    """What to attach to a PassContext; nothing unless a knob asks, since comparing modules takes time."""
    level, folder, skip = knobs.debug(), knobs.dump_folder(), knobs.skipped()
    return [Trace(level, folder, skip)] if level or folder or skip else []


def show_programs(module: IRModule) -> None:
    """From STACK_DEBUG=2 on, a line per program with its rule and decision; from 3 on, its scheduled loops too."""
    level = knobs.debug()
    if level < 2:
        return
    for name, function in module.functions.items():
        if isinstance(function, tvm.tirx.PrimFunc):
            print(f"{name.name_hint:40} {function.attrs['stack.rule']:14} {function.attrs['stack.decision']}", file=sys.stderr)
            if level > 2:
                print(function.script(), file=sys.stderr)
