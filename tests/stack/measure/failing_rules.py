"""A rule whose points fail in every way that a candidate can, for a program that adds one to each of 4096 floats; then the usual ones."""

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from schedules import cpu, mcu
from schedules.machine import Machine
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.space import CannotPack, Point, Space

N = 4096


@T.prim_func(s_tir=True)
def add_one(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
    for i in range(N):
        with T.sblock("y"):
            v = T.axis.spatial(N, i)
            y[v] = x[v] + T.float32(1)


@T.prim_func(s_tir=True)
def add_one_to_few(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
    for i in range(8):
        with T.sblock("y"):
            v = T.axis.spatial(8, i)
            y[v] = x[v] + T.float32(1)


@T.prim_func(s_tir=True)
def add_two(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
    for i in range(N):
        with T.sblock("y"):
            v = T.axis.spatial(N, i)
            y[v] = x[v] + T.float32(2)


@T.prim_func(s_tir=True)
def add_one_for_ever(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
    for r in T.serial(T.int64(1) << T.int64(50)):
        for i in range(N):
            with T.sblock("y"):
                v = T.axis.spatial(N, i)
                w = T.axis.opaque(T.int64(1) << T.int64(50), r)
                y[v] = y[v] * x[v] + T.cast(w, "float32")


@T.prim_func(s_tir=True)
def add_one_a_hundred_times(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
    for r in T.serial(100):
        for i in range(N):
            with T.sblock("y"):
                v = T.axis.spatial(N, i)
                w = T.axis.opaque(100, r)
                y[v] = T.if_then_else(w < 99, y[v] * x[v], x[v] + T.float32(1))


@T.prim_func(s_tir=True)
def abort(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
    with T.sblock("y"):
        T.reads(x[0:N])
        T.writes(y[0:N])
        T.evaluate(T.call_extern("int32", "abort"))


@T.prim_func(s_tir=True)
def need_much(x: T.Buffer((N,), "float32"), y: T.Buffer((N,), "float32")):
    much = T.sblock_alloc_buffer((T.int64(1) << T.int64(40),), "float32")
    for i in range(N):
        with T.sblock("much"):
            v = T.axis.spatial(N, i)
            much[T.cast(v, "int64") * T.int64(1 << 28)] = x[v] + T.float32(1)
    for i in range(N):
        with T.sblock("y"):
            v = T.axis.spatial(N, i)
            y[v] = much[T.cast(v, "int64") * T.int64(1 << 28)]


PROGRAMS = {
    "wrong": add_two, "hangs": add_one_for_ever, "slow": add_one_a_hundred_times, "aborts": abort, "needs much": need_much,
}  # fmt: skip
WAYS = ("good", "good too", "raises", "builds for ever", "asks for much", "cannot pack", *PROGRAMS)


def apply(program: tirx.PrimFunc, way: str) -> Schedule:
    if way == "raises":
        raise ValueError("this point\nis no schedule")
    if way == "asks for much":
        np.ones(1 << 45, np.uint8)
    while way == "builds for ever":
        pass
    return Schedule(tvm.IRModule({"main": PROGRAMS.get(way, program)}))


def fails(program: tirx.PrimFunc, _machine: Machine) -> Space | None:
    if [list(map(int, parameter.shape)) for parameter in program.params] != [[N], [N]]:
        return None

    def pack(point: Point, constants: list[np.ndarray]) -> list[np.ndarray]:
        if point["way"] == "cannot pack":
            raise CannotPack
        return constants

    return Space("fails", {"way": "good"}, lambda point: apply(program, str(point["way"])), {"way": WAYS}, pack)


C = """static void KERNEL(const float *x, float *y) {
  for (int i = 0; i < COUNT; i++)
    y[i] = x[i] + BODY;
}
"""
ON_BOARD = "((unsigned)KERNEL & 0x08000000u)"  # where the flash of an STM32 begins; of QEMU's own boards it is at 0
BODIES = {
    "good": "1",
    "good too": "1.0f",
    "wrong": "2",
    "does not compile": "(",
    "faults": "*(volatile float *)0xF0000000u",
    "hangs": "({ for (;;) {} 1; })",
    "wrong on the board": f"({ON_BOARD} ? 2 : 1)",
    "hangs on the board": f"({{ while {ON_BOARD} {{}} 1; }})",
    "faults on the board": f"({ON_BOARD} ? *(volatile float *)0xF0000000u : 1)",
}


def fails_on_a_core(program: tirx.PrimFunc, _machine: Machine) -> Space | None:
    if len(program.params) != 2:
        return None

    def apply(point: Point) -> Schedule:
        if point["way"] == "raises":
            raise ValueError("this point\nis no schedule")
        text = C.replace("BODY", BODIES[str(point["way"])]).replace("COUNT", str(int(program.params[0].shape[0])))
        return as_schedule(program, Kernel(text, 0))

    return Space("fails", {"way": "good"}, apply, {"way": (*BODIES, "raises")})


RULES = [fails, *cpu.RULES]
FIRMWARE_RULES = [fails_on_a_core, *mcu.RULES]
