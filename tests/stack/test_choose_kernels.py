"""A library's kernels beside ours: counted, compared, and taken where they need fewer instructions."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import stack
from relay_passes.choices import Choices
from schedules.mcu import cmsis_nn
from schedules.mcu.dsp_depthwise import dsp_depthwise
from schedules.mcu.fallback import fallback
from schedules.rule import Rule
from stack import choose_kernels, compiler
from stack.errors import DoesNotFit, StackError, ToolMissing
from stack.frontends.load import load
from stack.library import Library
from stack.samples import draw
from targets.cortex_m.export import export
from targets.cortex_m.runner import measure
from targets.registry import family_of, find
from tests.firmware_tools import need_firmware_tools
from tests.frontends.tflite.build import Micro
from tests.stack.test_cli import error, stackc
from tests.targets.cuda_networks import skip_aloud
from tests.tiny_networks import residual

MODEL = residual()
SLOW = (fallback,)


@pytest.fixture(scope="module")
def tree() -> Path:
    """The part of CMSIS-NN that the package bakenn brings."""
    need_firmware_tools()
    found = find_spec("bakenn")
    if found is None or found.origin is None:
        skip_aloud("no kernel of CMSIS-NN was run: pip install --no-deps bakenn brings its sources")
    return Path(found.origin).parent / "backend/cmsis_nn/vendor/cmsis_nn"


@pytest.fixture(scope="module")
def compiled(tree: Path) -> Callable[..., Library]:
    """compiled("cortex-m4", rules): beside the library we have no other rules than these. Each is compiled once."""

    @cache
    def compile_(core: str, rules: Sequence[Rule]) -> Library:
        with pytest.MonkeyPatch.context() as patch:
            only(patch, rules)
            return stack.compile(MODEL, core, cmsis_nn=tree)

    return compile_


def only(patch: pytest.MonkeyPatch, rules: Sequence[Rule]) -> None:
    patch.setattr(compiler, "family_of", lambda target: replace(family_of(target), rules=rules))


def expect_exact(library: Library) -> None:
    reference, rng, seen = Micro(MODEL), np.random.default_rng(1), set()
    for _ in range(4):
        x = rng.integers(-128, 128, (1, 8, 8, 3), np.int8)
        (expected,), (got,) = reference.run([x]), library.run({"image": x}).values()
        np.testing.assert_array_equal(got, expected)
        seen.add(expected.tobytes())
    assert len(seen) > 1


def instructions(library: Library) -> int:
    return int(measure(library.folder, library.manifest, list(draw(library.inputs, 0).values()))["instructions"])


def taken(library: Library) -> list[int]:
    return [index for index, operator in enumerate(library.manifest["operators"], 1) if operator["rule"] == "cmsis_nn"]


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_it_computes_all_that_it_does_better(compiled, core):
    """Against loops that no rule made fast that is much; and every layer of the library gives what loops that are exact give."""
    library = compiled(core, SLOW)
    said = library.manifest["cmsis_nn"]
    assert [count["layers"] for count in said["counts"]] == [[1], [2], [5]]
    assert said["differs"] == []
    assert taken(library) == [count["layers"][0] for count in said["counts"] if count["theirs"] < count["ours"]]
    assert 1 in taken(library)
    expect_exact(library)


def test_each_layer_takes_the_kernel_that_needs_less(compiled, tree, monkeypatch, tmp_path):
    theirs = compiled("cortex-m4", SLOW)
    rules = (dsp_depthwise, fallback)
    only(monkeypatch, rules)
    ours, best = stack.compile(MODEL, "cortex-m4"), compiled("cortex-m4", rules)
    assert taken(best) == [1]
    assert best.manifest["operators"][1]["rule"] == "dsp_depthwise"
    assert best.manifest["operators"][0]["decision"] == {"function": "arm_convolve_wrapper_s8"}
    assert instructions(best) < min(instructions(ours), instructions(theirs))
    expect_exact(best)

    best.save(tmp_path / "saved")
    names = {file.name for file in (tmp_path / "saved/cmsis_nn").iterdir()}
    assert {"arm_convolve_s8.c", "arm_nnfunctions.h", "LICENSE.txt"} <= names
    assert not {"arm_depthwise_conv_s8.c", "arm_fully_connected_s8.c", "arm_max_pool_s8.c"} & names
    copied, original = tmp_path / "saved/cmsis_nn/arm_convolve_s8.c", tree / "Source/ConvolutionFunctions/arm_convolve_s8.c"
    assert copied.read_bytes() == original.read_bytes()
    expect_exact(stack.load(tmp_path / "saved"))
    subprocess.run(["make", "-C", tmp_path / "saved"], check=True, capture_output=True)
    export(tmp_path / "saved", best.manifest, "cmake", tmp_path / "package")
    assert "src/cmsis_nn/arm_convolve_s8.c" in (tmp_path / "package/CMakeLists.txt").read_text()
    assert (tmp_path / "package/src/cmsis_nn/arm_nnfunctions.h").is_file()


def test_where_ours_are_better_nothing_changes(tree):
    plain, offered = stack.compile(MODEL, "cortex-m4"), stack.compile(MODEL, "cortex-m4", cmsis_nn=tree)
    assert all(count["ours"] <= count["theirs"] for count in offered.manifest["cmsis_nn"]["counts"])
    assert taken(offered) == []
    assert offered.manifest["files"] == plain.manifest["files"]


def test_what_the_library_lacks_or_computes_otherwise_stays_ours(tree, monkeypatch, tmp_path, capsys):
    only(monkeypatch, SLOW)
    pack = cmsis_nn.pack
    monkeypatch.setattr(cmsis_nn, "pack", lambda op, constants: list(constants) if op.channels == 3 else pack(op, constants))
    part = shutil.copytree(tree.parent, tmp_path / "vendor") / "cmsis_nn"
    (part / "Source/ConvolutionFunctions/arm_depthwise_conv_3x3_s8.c").unlink()
    (tmp_path / "tiny.tflite").write_bytes(MODEL)
    status, out, _ = stackc(capsys, "compile", tmp_path / "tiny.tflite", "-t", "cortex-m4", "-o", tmp_path / "out", "--cmsis-nn", part)
    assert status == 0
    assert "cmsis-nn   0 of 6 layers, those where it takes fewer instructions than ours" in out
    assert "cmsis-nn   without arm_depthwise_conv_wrapper_s8: the tree lacks arm_depthwise_conv_3x3_s8" in out
    assert "cmsis-nn   not for layer 1: its results there are not those of our kernels" in out
    assert not (tmp_path / "out/cmsis_nn").exists()


def test_kernels_that_make_a_network_too_large_for_a_board_are_given_up(monkeypatch):
    """Those that gain least first."""
    target = find("mps2-an386")
    family = replace(family_of(target), rules=SLOW)
    loaded = load(MODEL, {})
    module = loaded.module
    for graph_pass in family.graph_passes(target.machine, Choices()):
        module = graph_pass(module)
    network = choose_kernels.Network(module, loaded.signature(), target, family)
    conv, depthwise, dense = (op for _, op in network.layers())
    calls = {op: cmsis_nn.Call("arm_convolve_wrapper_s8", 600) for op in (conv, depthwise, dense)}
    gains = {conv: 10, depthwise: 30, dense: 20}
    assert choose_kernels.fitting(network, calls, gains) == calls
    place = choose_kernels.place_network

    def tight(network, memories, board):
        if sum(buffer.scratch and buffer.bytes == 600 for buffer in network.buffers) > 1:
            raise DoesNotFit("too large")
        return place(network, memories, board)

    monkeypatch.setattr(choose_kernels, "place_network", tight)
    assert choose_kernels.fitting(network, calls, gains) == {depthwise: calls[depthwise]}


# what users can get wrong


def test_it_is_for_microcontrollers(capsys, tmp_path):
    block = error(capsys, "compile", "m.tflite", "-o", tmp_path / "out", "--cmsis-nn", tmp_path)
    assert block.startswith("error: CMSIS-NN runs on Cortex-M, and 'x86' is none\n  at: --cmsis-nn\n  hint: `stackc targets`")


def small_tree(folder: Path, licence: bool = True, core: bool = False) -> Path:
    (folder / "Include").mkdir(parents=True)
    (folder / "Source").mkdir()
    (folder / "Include/arm_nnfunctions.h").write_text('#include "cmsis_compiler.h"\n' if core else "")
    if licence:
        (folder / "LICENSE").write_text("Apache 2.0")
    return folder


@pytest.mark.parametrize(
    ("make", "what", "hint"),
    [
        (lambda folder: folder / "nowhere", "there is no such folder for CMSIS-NN", "git clone "),
        (lambda folder: folder, "this is no source tree of CMSIS-NN: it has no Include/arm_nnfunctions.h", "git clone "),
        (lambda folder: small_tree(folder / "inside").parent, "it has no Include/arm_nnfunctions.h", "did you mean '"),
        (lambda folder: small_tree(folder, licence=False), "has no LICENSE, which must go with every copy", "git clone "),
        (lambda folder: small_tree(folder, core=True), "needs CMSIS-Core: there is no Include/cmsis_compiler.h", "put CMSIS/Core"),
    ],
)
def test_a_folder_that_is_no_tree(tmp_path, make, what, hint):
    root = make(tmp_path)
    with pytest.raises(StackError, match="CMSIS-") as raised:
        stack.compile(MODEL, "cortex-m4", cmsis_nn=root)
    assert what in raised.value.what
    assert raised.value.at == str(root)
    assert raised.value.hint.startswith(hint)


def test_nothing_is_counted_without_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="the GNU toolchain for Arm is not installed"):
        stack.compile(MODEL, "cortex-m4", cmsis_nn=small_tree(tmp_path / "tree"))
