"""Constants on their way into weights.bin."""

from pathlib import Path

import numpy as np
import tvm

from relay_passes.plan_memory import ALIGN
from stack.emit.program import Constants, Place, Program, raw, view


def test_equal_constants_lie_at_one_place(tmp_path: Path) -> None:
    program, constants = Program([], []), Constants()
    one, other = np.full((3, 5), np.nan, np.float32), np.arange(15, dtype=np.float32).reshape(3, 5)
    places = [constants.place(array, program) for array in (one, other, one.copy(), other.reshape(5, 3), other)]
    assert places == [Place("weights", offset) for offset in (0, ALIGN, 0, 2 * ALIGN, ALIGN)]
    program.write_weights(tmp_path / "weights.bin")
    blob = (tmp_path / "weights.bin").read_bytes()
    assert len(blob) == program.weight_bytes == 2 * ALIGN + 60
    assert blob[:60] == one.tobytes()
    assert blob[60:ALIGN] == bytes(ALIGN - 60)
    assert blob[ALIGN : ALIGN + 60] == other.tobytes()


def test_zeros_of_both_signs_differ() -> None:
    program, constants = Program([], []), Constants()
    assert constants.place(np.array(0.0), program) != constants.place(np.array(-0.0), program)


def test_a_constant_is_read_where_it_lies() -> None:
    value = tvm.runtime.tensor(np.ones(4, np.float32))
    assert np.shares_memory(view(value), np.from_dlpack(value))
    assert raw(view(tvm.runtime.tensor(np.ones(4, np.float32)).copyto(tvm.cpu()))).nbytes == 16
