"""The firmware runs for real, in QEMU, on every core that QEMU has."""

import shutil

import numpy as np
import pytest

from stack.errors import StackError, ToolMissing
from stack.manifest import tensors
from stack.samples import draw
from targets.cortex_m import toolchain
from targets.cortex_m.binding import identity
from targets.cortex_m.board import board_of
from targets.cortex_m.build import build_harness
from targets.cortex_m.protocol import Session
from targets.cortex_m.runner import FirmwareRunner, measure, open_runner
from targets.cortex_m.toolchain import section_sizes
from targets.registry import find, names
from tests.targets.cortex_m.projects import VALUES, write_project


def drawn(manifest):
    return list(draw(tensors(manifest["inputs"]), 0).values())


MACHINES = [
    ("cortex-m0", False, "microbit"),
    ("cortex-m0", False, "mps2-an385"),
    ("cortex-m0plus", False, "mps2-an385"),
    ("cortex-m3", False, "mps2-an385"),
    ("cortex-m23", False, "mps2-an505"),
    ("cortex-m4", True, "mps2-an386"),
    ("cortex-m4", True, "netduinoplus2"),
    ("cortex-m7", True, "mps2-an500"),
    ("cortex-m33", True, "mps2-an505"),
    ("cortex-m55", True, "mps3-an547"),
]
LOOP = r'{ uint32_t n = %d; __asm volatile(".syntax unified\n1: subs %%0, %%0, #1\n bne 1b" : "+l"(n) : : "cc"); }'
INPUT = np.arange(-4, 4, dtype=np.int8).reshape(1, 8)


def dense(x):
    return (np.array(VALUES, np.int32).reshape(4, 8) @ x.ravel().astype(np.int32)).reshape(1, 4)


def run(runner: FirmwareRunner, x: np.ndarray) -> np.ndarray:
    y = np.empty((1, 4), np.int32)
    runner.run([x], [y])
    return y


@pytest.mark.parametrize(("core", "fpu", "board"), MACHINES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_firmware_computes_and_counts_on_every_machine(core, fpu, board, tmp_path):
    manifest = write_project(tmp_path, core, fpu, body=LOOP % 10_000)
    runner = open_runner(tmp_path, manifest, board=board)
    y = np.empty((1, 4), np.int32)
    _, loop = runner.profile([INPUT], [y])
    np.testing.assert_array_equal(y, dense(INPUT))
    assert loop in (20_000 + more for more in range(-3, 8))  # two instructions a turn
    runner.close()


@pytest.mark.parametrize("name", [name for name in names() if name != "x86" and find(name).board.get("qemu")])
def test_every_memory_that_a_board_file_names_is_there_in_qemu(name, tmp_path):
    board = board_of(find(name))
    body = "volatile uint32_t *word; "
    for memory in board.memory:
        last = memory.base + memory.bytes - 4
        if memory.kind == "flash":
            body += f"word = (uint32_t *){last}u; output[0] += *word & 0; "  # reading beyond it would fault
        elif memory is not board.memories("ram")[0]:
            body += "".join(
                f"word = (uint32_t *){place}u; *word = {memory.base + 7}u; if (*word != {memory.base + 7}u) return 3; "
                for place in (memory.base, last)
            )
        else:
            body += f"if ((uint32_t)&word < {memory.base}u || (uint32_t)&word < {last - 2000}u || (uint32_t)&word > {last}u) return 4; "
    runner = open_runner(tmp_path, write_project(tmp_path, board.core, board.fpu, body=body), board=name)
    np.testing.assert_array_equal(run(runner, INPUT), dense(INPUT))


def test_without_a_board_a_core_runs_on_the_one_that_emulates_it(tmp_path):
    for core, _, _ in MACHINES:
        manifest = write_project(tmp_path, core)
        assert open_runner(tmp_path, manifest).board.name == board_of(find(core)).emulate


def test_many_runs_share_one_start_and_give_each_its_own_output(tmp_path):
    runner = open_runner(tmp_path, write_project(tmp_path))
    inputs = np.random.default_rng(0).integers(-128, 128, (200, 1, 8), np.int8)
    outputs = runner.run_many([[x] for x in inputs])
    np.testing.assert_array_equal([y for (y,) in outputs], [dense(x) for x in inputs])
    assert list(runner.sessions) == [False]


def test_a_count_is_the_same_again_and_right_beyond_the_wraps_of_systick(tmp_path):
    turns = 20_000_000  # 40 million instructions are 64 million ticks: SysTick holds 16
    runner = open_runner(tmp_path, write_project(tmp_path, body=LOOP % turns))
    (first, _), (second, _) = runner.cost([INPUT]), runner.cost([INPUT])
    assert first == second
    assert first == pytest.approx(2 * turns, rel=1e-4)


def test_stack_use_is_measured(tmp_path):
    body = "volatile uint8_t room[%d]; for (unsigned i = 0; i < sizeof room; i++) room[i] = 1;"
    stack = []
    for room in (400, 1400):
        runner = open_runner(tmp_path, write_project(tmp_path, body=body % room))
        stack.append(runner.cost([INPUT])[1])
    assert stack[1] - stack[0] == 1000
    assert stack[0] < 460


def test_a_streaming_model_goes_on_from_run_to_run(tmp_path):
    runner = open_runner(tmp_path, write_project(tmp_path, streaming=True))
    steps = [run(runner, INPUT) - dense(INPUT) for _ in range(3)]
    assert [step.ravel().tolist() for step in steps] == [[1] * 4, [2] * 4, [3] * 4]
    runner.profile([INPUT], [np.empty((1, 4), np.int32)])
    assert (run(runner, INPUT) - dense(INPUT))[0, 0] == 4
    runner.reset()
    assert (run(runner, INPUT) - dense(INPUT))[0, 0] == 1


def test_a_firmware_of_another_model_is_not_taken_for_this_one(tmp_path):
    manifest = write_project(tmp_path)
    manifest["files"] = {"model.c": "4f1d", "model.h": "77ab", "weights.c": "09e2"}
    runner = open_runner(tmp_path, manifest)
    np.testing.assert_array_equal(run(runner, INPUT), dense(INPUT))
    link = runner.session(False).link
    Session(link, 2, 8, 16, identity(manifest))
    for other in ((2, 8, 16, 0), (2, 8, 16, identity(manifest) + 1), (3, 8, 16, identity(manifest)), (2, 9, 16, identity(manifest))):
        with pytest.raises(StackError) as caught:
            Session(link, *other)
        assert caught.value.what == "the device runs another program than the harness of this very model"


def test_a_model_with_two_arenas_has_each_in_its_memory(tmp_path):
    check = "if ((uintptr_t)arena >> 28 != 2 || (uintptr_t)arena_sram >> 24 != 0x31) return 1;"
    manifest = write_project(tmp_path, "cortex-m55", body=check)
    for file in ("model.h", "model.c"):
        text = (tmp_path / file).read_text().replace("void *arena)", "void *arena, void *arena_sram)")
        (tmp_path / file).write_text(text.replace("#define TINY_ARENA_ALIGN", "#define TINY_ARENA_SRAM_BYTES 64\n#define TINY_ARENA_ALIGN"))
    manifest["arenas"] = [
        {"parameter": "arena", "bytes": 48, "memory": "ram"},
        {"parameter": "arena_sram", "bytes": 64, "memory": "sram"},
    ]
    runner = open_runner(tmp_path, manifest, board="mps3-an547")
    np.testing.assert_array_equal(run(runner, INPUT), dense(INPUT))
    assert measure(tmp_path, manifest, drawn(manifest), board="mps3-an547")["ram_bytes"]["static"] == 24  # inputs and outputs, in no arena


def test_measure_counts_flash_and_ram_of_the_whole_firmware(tmp_path):
    manifest = write_project(tmp_path)
    small = measure(tmp_path, manifest, drawn(manifest))
    assert small["flash_bytes"]["weights"] == 32
    assert 0 < small["flash_bytes"]["code"] < 600
    assert small["ram_bytes"]["arena"] == 48
    assert small["ram_bytes"]["static"] == 0
    manifest = write_project(tmp_path, body="static int32_t kept[25] = {1}; kept[output[1] & 15] += output[0];", streaming=True)
    large = measure(tmp_path, manifest, drawn(manifest))
    assert large["ram_bytes"]["static"] == 104  # what is kept, and the state
    assert large["flash_bytes"]["code"] > small["flash_bytes"]["code"] + 100


def test_more_operators_than_the_profiler_records_at_once(tmp_path):
    manifest = write_project(tmp_path, body="for (int i = 1; i < 499; i++) STEP(i);")
    source = (tmp_path / "model.c").read_text()
    (tmp_path / "model.c").write_text(source.replace("  STEP(1);\n", LOOP % 1000 + "\n  STEP(499);\n"))
    manifest["operators"] = [{"kernel": "step", "rule": "hand"}] * 500
    counts = open_runner(tmp_path, manifest).profile([INPUT], [np.empty((1, 4), np.int32)])
    assert len(counts) == 500
    assert max(counts[1:499]) < 20
    assert 2000 <= counts[499] < 2010


def test_the_profiler_takes_less_than_a_kilobyte_of_ram(tmp_path):
    board, manifest = board_of(find("mps2-an386")), write_project(tmp_path)
    plain, profiling = (section_sizes(build_harness(tmp_path, manifest, board, tmp_path, profile=profile)) for profile in (False, True))
    assert 900 < profiling[".bss"] + profiling.get(".data", 0) - plain[".bss"] - plain.get(".data", 0) < 1024


def test_a_firmware_that_hangs_is_stopped_and_what_it_printed_is_told(tmp_path):
    body = 'register int r0 __asm("r0") = 4; register const char *r1 __asm("r1") = "layer 7\\n"; '
    body += '__asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory"); for (;;) {}'
    runner = open_runner(tmp_path, write_project(tmp_path, body=body), timeout=1.0)
    with pytest.raises(StackError) as caught:
        run(runner, INPUT)
    assert str(caught.value) == (
        "error: the firmware gave no answer within 1 s; it printed: layer 7\n"
        "  at: tiny.elf on QEMU's mps2-an386\n"
        "  hint: it hangs, or it needs more time than it was given"
    )


def test_a_firmware_that_faults_says_so(tmp_path):
    runner = open_runner(tmp_path, write_project(tmp_path, body='__asm volatile(".short 0xde00");'))
    with pytest.raises(StackError) as caught:
        run(runner, INPUT)
    assert str(caught.value) == (
        "error: the firmware ended before its answer; it printed: the firmware faulted\n  at: tiny.elf on QEMU's mps2-an386"
    )


def test_a_status_of_the_model_is_told(tmp_path):
    runner = open_runner(tmp_path, write_project(tmp_path, body="return 2;"))
    with pytest.raises(StackError) as caught:
        run(runner, INPUT)
    assert str(caught.value) == "error: the model returned status 2: the arena is not aligned\n  at: tiny.elf on QEMU's mps2-an386"


@pytest.mark.parametrize("offset", [48, 63])
def test_a_write_behind_the_arena_is_caught(offset, tmp_path):
    runner = open_runner(tmp_path, write_project(tmp_path, body=f"((volatile uint8_t *)arena)[{offset}] = 0;"))
    with pytest.raises(AssertionError, match="wrote behind an arena"):
        run(runner, INPUT)


def test_code_for_a_core_that_the_board_lacks(tmp_path):
    runner = open_runner(tmp_path, write_project(tmp_path, "cortex-m7"), board="mps2-an386")
    with pytest.raises(StackError) as caught:
        run(runner, INPUT)
    assert str(caught.value) == (
        "error: the board 'mps2-an386' does not run code for cortex-m7: it has a cortex-m4\n"
        "  hint: compile the model again with -t mps2-an386"
    )


def test_a_model_that_does_not_fit(tmp_path):
    manifest = write_project(tmp_path, "cortex-m0", False)
    header = (tmp_path / "model.h").read_text()
    (tmp_path / "model.h").write_text(header.replace("ARENA_BYTES 48", "ARENA_BYTES 20000"))
    with pytest.raises(StackError) as caught:
        run(open_runner(tmp_path, manifest, board="microbit"), INPUT)
    assert caught.value.what.startswith("the firmware does not fit: ")
    assert caught.value.what.endswith("bytes more of ram are needed than there are")


@pytest.mark.parametrize(
    ("keep", "what"),
    [
        ((), "error: the GNU toolchain for Arm is not installed\n  at: arm-none-eabi-gcc on PATH\n"
             "  hint: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"),
        (("arm-none-eabi-gcc", "arm-none-eabi-as", "arm-none-eabi-ld"),
         "error: QEMU for Arm is not installed\n  at: qemu-system-arm on PATH\n  hint: apt-get install qemu-system-arm"),
    ],
    ids=["gcc", "qemu"],
)  # fmt: skip
def test_a_missing_tool_is_named_with_the_command_that_installs_it(keep, what, tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in keep:
        (tools / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(ToolMissing) as caught:
        run(open_runner(tmp_path / "p", write_project(tmp_path / "p")), INPUT)
    assert str(caught.value) == what


def test_a_model_that_the_compiler_refuses(tmp_path):
    with pytest.raises(StackError) as caught:
        run(open_runner(tmp_path, write_project(tmp_path, body="nonsense;")), INPUT)
    assert caught.value.what.startswith("the C compiler failed: ")
    assert "nonsense" in caught.value.what
    assert caught.value.at == str(tmp_path / "model.c")


def test_without_newlib(tmp_path, monkeypatch):
    gcc = tmp_path / "arm-none-eabi-gcc"
    gcc.write_text("#!/bin/sh\necho libc.a\n")
    gcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        toolchain.find_newlib()
    assert str(caught.value) == (
        "error: newlib, the C library for Arm, is not installed\n"
        "  at: arm-none-eabi-gcc -print-file-name=libc.a\n"
        "  hint: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    )
