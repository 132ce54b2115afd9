import pytest

from stack.errors import StackError
from targets.registry import find
from targets.x86 import detect

ZEN4 = frozenset({"bmi", "lzcnt", "movbe", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni", "64bit"})
FLAGS = frozenset(detect.LLVM_FEATURES[name] for name in ZEN4 if name in detect.LLVM_FEATURES)


@pytest.fixture
def flags(monkeypatch):
    """Sets the flags of a pretended CPU."""

    def pretend(names):
        monkeypatch.setattr(detect, "cpu_flags", lambda: frozenset(names))
        return detect.describe_machine.__wrapped__()

    return pretend


@pytest.mark.parametrize(
    ("level", "vector_bytes", "registers", "int8_dot"),
    [(detect.AVX2, 32, 16, False), (detect.AVX512, 64, 32, False), (detect.VNNI, 64, 32, True)],
)
def test_the_machine_follows_from_the_flags(level, vector_bytes, registers, int8_dot, flags):
    machine = flags({*level, "fpu", "sse2"}).machine
    assert (machine.vector_bytes, machine.vector_registers, machine.int8_dot) == (vector_bytes, registers, int8_dot)


def test_a_library_for_this_machine_asks_for_what_llvm_may_use_and_for_no_more(flags):
    assert flags({*detect.AVX2, "movbe", "abm", "fpu", "rdrand"}).features == tuple(sorted({*detect.AVX2, "movbe", "abm"}))


def test_a_cpu_without_avx2_is_told_how_to_cross_compile(flags):
    with pytest.raises(StackError) as caught:
        flags({"sse2", "avx"})
    text = str(caught.value)
    assert text.startswith("error: target 'x86' means this machine, and it lacks AVX2 and FMA\n  at: ")
    assert text.endswith("hint: name a target to cross-compile, such as -t x86-avx2; `stackc targets` lists them")


@pytest.mark.parametrize(
    ("features", "cpu"),
    [
        (FLAGS, "znver4"),
        (FLAGS - {"avx512_vnni"}, "x86-64-v4"),
        (FLAGS - {"avx512f", "avx512_vnni"}, "x86-64-v3"),
    ],
)
def test_features_that_a_hypervisor_hides_are_not_used(features, cpu):
    assert detect.choose_cpu("znver4", ZEN4, features) == cpu


def test_this_machine_is_the_target_x86():
    if not detect.cpu_flags().issuperset(detect.AVX2):
        pytest.skip("this CPU has no AVX2")
    target = find("x86")
    assert target.codegen["mcpu"]
    assert target.machine.cores >= 1
    assert target.machine.l2_bytes > target.machine.l1_bytes > 0
