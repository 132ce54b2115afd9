"""A pass or a rule may change how a model computes, never what.

Every pass of every pipeline runs on every sample model below, in the pipeline's order. After each pass that changed something the model is
run and compared with the untouched one, and the pass is run once more, which must change nothing. Where passes can go more than one way,
the pipeline runs once more and goes the last. Then every rule schedules every program that comes to it, and the scheduled program is
compared with the unscheduled one. A new pass or rule is covered as soon as it is listed.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import tvm
from tvm import relax, te, tirx, topi
from tvm.ir import GenericConst
from tvm.ir.transform import Pass
from tvm_ffi import StructuralKey, structural_equal

import schedules.cpu
from relay_passes import pipeline
from relay_passes.choices import Choices
from schedules.machine import Machine
from schedules.rule import Rule
from schedules.space import Space
from tests.relay_passes.network import FAST_BUILD, const, network, random_inputs, run, run_planned
from tests.schedules.cpu.programs import MACHINES, aligned
from tests.schedules.cpu.programs import run as run_native

op, nn = relax.op, relax.op.nn
MACHINE = Machine(vector_bytes=64, vector_registers=32)


class Last(Choices):
    """Goes the last way at each place, and the same way where it comes by again."""

    def choose(self, kind: str, options: Sequence[str], like: str = "") -> str:
        return self.places.setdefault(f"{kind}/{like or len(self.places)}", (options[-1],))[0]


PIPELINES: dict[str, Callable[[], list[Pass]]] = {
    "cpu": lambda: pipeline.cpu_passes(MACHINE, Choices()),
    "cpu, other ways": lambda: pipeline.cpu_passes(MACHINE, Last()),
    "gpu": lambda: pipeline.gpu_passes(MACHINE, Choices()),
}
OF_BYTES = {
    "dot_conv2d",
    "dot_depthwise",
    "dot_batch_matmul",
    "softmax_of_bytes",
    "max_of_bytes",
    "table_of_bytes",
    "interleave_bytes",
}  # rules for quantised networks: test_compare_bytes.py has those
REPEATS_DIFFER = {  # TVM's own, which number, move or wrap again what they made
    "FuseOps", "FuseTIR", "FuseTIRInner", "LegalizeOps", "CallTIRRewrite", "RewriteDataflowReshape", "AnnotateTIROpPattern",
}  # fmt: skip


def residual_block() -> tvm.IRModule:
    def body(x: relax.Var) -> relax.Expr:
        stem = nn.relu(op.add(nn.conv2d(x, const(16, 3, 3, 3, seed=1), strides=2, padding=1), const(1, 16, 1, 1, seed=2)))
        inner = nn.relu(op.add(nn.conv2d(stem, const(16, 16, 3, 3, seed=3), padding=1), const(1, 16, 1, 1, seed=4)))
        outer = op.add(nn.conv2d(inner, const(16, 16, 1, 1, seed=5)), const(1, 16, 1, 1, seed=6))
        total = op.sum(op.stack([op.broadcast_to(outer, (1, 16, 6, 6)), op.broadcast_to(stem, (1, 16, 6, 6))], axis=0), axis=[0])
        pooled = nn.avg_pool2d(nn.max_pool2d(nn.relu(total), (2, 2), strides=2), (3, 3))
        return nn.softmax(op.matmul(op.squeeze(pooled, axis=[2, 3]), op.permute_dims(const(10, 16, seed=7), [1, 0])), axis=-1)

    return network(body, (1, 3, 12, 12))


def inverted_bottleneck() -> tvm.IRModule:
    def clip(x: relax.Expr) -> relax.Expr:
        return op.minimum(op.maximum(x, relax.const(0.0, "float32")), relax.const(6.0, "float32"))

    def body(x: relax.Var) -> relax.Expr:
        wide = clip(op.add(nn.conv2d(x, const(24, 8, 1, 1, seed=1)), const(1, 24, 1, 1, seed=2)))
        deep = clip(nn.conv2d(nn.pad(wide, (0, 0, 0, 0, 1, 1, 1, 1)), const(24, 1, 3, 3, seed=3), groups=24))
        gate = op.divide(op.clip(op.add(deep, relax.const(3.0, "float32")), 0.0, 6.0), relax.const(6.0, "float32"))
        squeeze = nn.adaptive_avg_pool2d(op.multiply(deep, gate), (1, 1))
        excite = op.sigmoid(nn.conv2d(squeeze, const(24, 24, 1, 1, seed=4)))
        return op.add(x, nn.conv2d(op.multiply(deep, excite), const(8, 24, 1, 1, seed=5)))

    return network(body, (1, 8, 7, 7))


def dense_block() -> tvm.IRModule:
    def norm(x: relax.Expr, channels: int, seed: int) -> relax.Expr:
        statistics = [const(channels, seed=seed + k, low=0.5) for k in range(4)]
        normal = relax.TupleGetItem(nn.batch_norm(x, *statistics, axis=1, training=False), 0)
        scaled = op.multiply(normal, const(1, channels, 1, 1, seed=seed + 4))
        return nn.relu(op.add(scaled, const(1, channels, 1, 1, seed=seed + 5)))

    def body(x: relax.Var) -> relax.Expr:
        features = relax.TupleGetItem(
            nn.batch_norm(nn.conv2d(x, const(8, 4, 1, 1)), *[const(8, seed=k, low=0.5) for k in range(4)], axis=1, training=False), 0
        )
        growth = nn.conv2d(norm(features, 8, 10), const(4, 8, 3, 3, seed=20), padding=1)
        joined = op.concat([op.concat([growth, x], axis=1), features], axis=1)
        return nn.avg_pool2d(norm(joined, 16, 30), (2, 2), strides=2)

    return network(body, (1, 4, 6, 6))


def shuffled_groups() -> tvm.IRModule:
    def body(x: relax.Var) -> relax.Expr:
        grouped = nn.relu(nn.conv2d(x, const(8, 4, 1, 1, seed=1), groups=2))
        shuffled = op.reshape(op.permute_dims(op.reshape(grouped, (1, 2, 4, 5, 5)), [0, 2, 1, 3, 4]), (1, 8, 5, 5))
        return op.concat([shuffled, nn.avg_pool2d(x, (3, 3), strides=1, padding=1)], axis=1)

    return network(body, (1, 8, 5, 5))


def encoder_layer() -> tvm.IRModule:
    def dense(x: relax.Expr, inputs: int, outputs: int, seed: int) -> relax.Expr:
        return op.add(op.matmul(x, op.permute_dims(const(outputs, inputs, seed=seed), [1, 0])), const(outputs, seed=seed + 1))

    def heads(x: relax.Expr, order: list[int]) -> relax.Expr:
        return op.permute_dims(op.reshape(x, (1, 6, 2, 8)), order)

    def norm(x: relax.Expr) -> relax.Expr:
        return nn.layer_norm(x, const(16, seed=3, low=0.5), const(16, seed=4), axes=[-1])

    def body(ids: relax.Var) -> relax.Expr:
        ids = op.where(op.less(ids, relax.const(0, "int64")), op.add(ids, relax.const(7, "int64")), ids)
        x = op.take(const(7, 16, seed=5), ids, axis=0, mode="fast")
        flat = op.reshape(x, (6, 16))
        q, k, v = (dense(flat, 16, 16, seed) for seed in (10, 20, 30))
        scores = op.multiply(op.matmul(heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 3, 1])), relax.const(0.35, "float32"))
        mixed = op.permute_dims(op.matmul(nn.softmax(scores, axis=-1), heads(v, [0, 2, 1, 3])), [0, 2, 1, 3])
        x = norm(op.add(x, op.reshape(dense(op.reshape(mixed, (6, 16)), 16, 16, 40), (1, 6, 16))))
        h = op.reshape(dense(op.reshape(x, (6, 16)), 16, 32, 50), (1, 6, 32))
        erf = op.erf(op.divide(h, const(low=1.4, high=1.5)))
        gelu = op.multiply(op.multiply(h, relax.const(0.5, "float32")), op.add(erf, const(low=1, high=1)))
        return norm(op.add(x, op.reshape(dense(op.reshape(gelu, (6, 32)), 32, 16, 60), (1, 6, 16))))

    return network(body, ((1, 6), "int64"))


def attention() -> tvm.IRModule:
    """Products of two activations, as wide as a vector register."""

    def body(q: relax.Var, k: relax.Var, v: relax.Var) -> relax.Expr:
        scores = op.multiply(op.matmul(q, op.permute_dims(k, [0, 1, 3, 2])), relax.const(0.25, "float32"))
        return op.matmul(nn.softmax(scores, axis=-1), v)

    return network(body, (1, 2, 16, 32), (1, 2, 16, 32), (1, 2, 16, 32))


def sound() -> tvm.IRModule:
    """One-dimensional, channels last, two outputs of which one is an intermediate of the other."""

    def body(x: relax.Var) -> relax.Expr:
        first = nn.conv1d(op.permute_dims(x, [0, 2, 1]), const(8, 3, 5, seed=1), strides=2, padding=2)
        second = op.permute_dims(nn.relu(op.permute_dims(first, [0, 2, 1])), [0, 2, 1])
        column = nn.conv2d(op.expand_dims(second, axis=[3]), const(8, 8, 3, 1, seed=2), padding=(1, 0))
        power = op.sum(op.power(op.permute_dims(column, [0, 2, 3, 1]), relax.const(2.0, "float32")), axis=[-1])
        return relax.Tuple([op.tanh(op.squeeze(column, axis=[3])), op.log(op.add(power, relax.const(1e-3, "float32")))])

    return network(body, (1, 20, 3))


def written_out() -> tvm.IRModule:
    """Programs that an importer wrote itself, a transposed convolution, and arithmetic on constants."""
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType((1, 4, 6, 6), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            limit = builder.emit(op.add(relax.const(0.25, "float32"), relax.const(0.5, "float32")))
            padded = builder.emit_te(topi.nn.pad, x, [0, 0, 1, 0], [0, 0, 1, 2], 0.0)
            conv = builder.emit(nn.conv2d(padded, const(4, 4, 3, 3, seed=1)))
            up = builder.emit(nn.conv2d_transpose(conv, const(4, 6, 2, 2, seed=2), strides=2))
            scaled = builder.emit(op.multiply(up, const(1, 6, 1, 1, seed=3)))
            low = builder.emit_te(topi.minimum, scaled, limit)
            twice = builder.emit_te(lambda a: te.compute(a.shape, lambda *i: a(*i) + a(*i), "twice"), low)
            result = builder.emit_output(twice)
        builder.emit_func_output(result)
    return builder.finalize()


def channels_last() -> tvm.IRModule:
    """As TFLite writes networks, with integers in between."""

    def body(x: relax.Var) -> relax.Expr:
        scale, zero = relax.const(np.float32(0.05)), relax.const(np.int8(4), "int8")
        stem = nn.conv2d(nn.pad(x, (0, 0, 0, 1, 0, 1, 0, 0)), const(8, 3, 3, 3, seed=1), 2, data_layout="NHWC", kernel_layout="OHWI")
        stored = op.quantize(nn.relu(op.add(stem, const(8, seed=2))), scale, zero, 0, "int8")
        wide = nn.conv2d(
            op.dequantize(stored, scale, zero, 0), const(1, 3, 3, 8, seed=3), padding=1, groups=8, data_layout="NHWC", kernel_layout="IHWO"
        )
        pooled = nn.max_pool2d(nn.avg_pool2d(wide, (2, 2), (1, 1), (0, 0, 1, 1), layout="NHWC"), (2, 2), (2, 2), layout="NHWC")
        return nn.softmax(op.matmul(op.reshape(pooled, (1, 32)), const(32, 5, seed=4)))

    return network(body, (1, 11, 11, 3))


MODELS = [residual_block, inverted_bottleneck, dense_block, shuffled_groups, encoder_layer, attention, sound, written_out, channels_last]
cached = cache(lambda make: make())


without_copies = relax.transform.CanonicalizeBindings()  # a pass may bind the result once more


def assert_close(actual: list[np.ndarray], expected: list[np.ndarray], what: str) -> None:
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=what)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("make", MODELS)
def test_every_pass_keeps_the_numbers_and_comes_to_rest(make: Callable[[], tvm.IRModule], name: str) -> None:
    module = cached(make)
    expected = outputs(StructuralKey(module), False)
    for graph_pass in PIPELINES[name]():
        before, title = module, graph_pass.info.name
        module = graph_pass(before)
        if structural_equal(module, before):
            continue
        assert_close(outputs(StructuralKey(module), title in ("plan_memory", "drop_uncalled")), expected, f"after {title}")
        again = without_copies(graph_pass(module))
        settled = title not in REPEATS_DIFFER and (title, name) != ("block_layout", "cpu, other ways")  # which asks again in other company
        assert not settled or structural_equal(again, without_copies(module)), f"a second {title} makes\n{again}"


@cache
def outputs(key: StructuralKey, planned: bool) -> list[np.ndarray]:
    """What a module returns for the inputs of all these tests; pipelines share their first passes, hence the cache."""
    execute = run_planned if planned else run  # the virtual machine takes no tensor in the middle of another
    return execute(key.key, random_inputs(key.key))


@cache
def programs(make: Callable[[], tvm.IRModule]) -> list[tuple[tirx.PrimFunc, list[int]]]:
    """The programs that a model becomes on either way, and which of their operands are constants."""
    found = []
    for name in ("cpu", "cpu, other ways"):
        module = cached(make)
        for graph_pass in PIPELINES[name]():
            module = graph_pass(module)
        for call in (binding.value for block in module["main"].body.blocks for binding in block.bindings):
            if isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.GlobalVar):
                found.append((module[call.op], [i for i, operand in enumerate(call.args) if isinstance(operand, GenericConst)]))
    return list({StructuralKey(program): (program, constants) for program, constants in found}.values())


def packed(space: Space, arrays: list[np.ndarray], constants: list[int]) -> list[np.ndarray]:
    """The operands of a scheduled program: as `schedules.apply` passes them."""
    if space.pack is None:
        return arrays
    ready = [np.ascontiguousarray(array) for array in space.pack(space.default, [arrays[index] for index in constants])]
    if space.in_place:
        return [ready[constants.index(index)] if index in constants else array for index, array in enumerate(arrays)]
    return [*(array for index, array in enumerate(arrays[:-1]) if index not in constants), *ready, arrays[-1]]


def run_program(program: tirx.PrimFunc, arrays: list[np.ndarray]) -> list[np.ndarray]:
    function = tvm.compile(tvm.IRModule({"main": program.with_attr("global_symbol", "main")}), FAST_BUILD)
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    function["main"](*tensors)
    return [tensor.numpy() for tensor in tensors]


def run_scheduled(program: tirx.PrimFunc, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """As the native container builds it, which knows vectors of more functions than TVM's own pipeline."""
    placed = [aligned(array.shape, str(array.dtype)) for array in arrays]
    for place, array in zip(placed, arrays, strict=True):
        place[...] = array
    run_native(program, MACHINES[-1], *placed)
    return placed


def arguments(program: tirx.PrimFunc) -> list[np.ndarray]:
    """Random arrays for all buffers, outputs too; indices stay in the smallest table."""
    rng = np.random.default_rng(0)
    result = []
    for buffer in program.params:
        shape, dtype = tuple(int(extent) for extent in buffer.shape), str(buffer.dtype)
        result.append(rng.uniform(0.1, 1, shape).astype(dtype) if dtype.startswith("float") else rng.integers(0, 2, shape).astype(dtype))
    return result


@pytest.mark.parametrize("rule", schedules.cpu.RULES, ids=lambda rule: rule.__name__)
def test_every_rule_keeps_the_numbers(rule: Rule) -> None:
    """On each program that reaches the rule because the rules before it declined."""
    earlier = schedules.cpu.RULES[: schedules.cpu.RULES.index(rule)]
    taken = 0
    for program, constants in [found for make in MODELS for found in programs(make)]:
        space = None if any(other(program, MACHINE) for other in earlier) else rule(program, MACHINE)
        if space is not None:
            taken += 1
            arrays = arguments(program)
            scheduled = space.apply(space.default).mod["main"]
            actual = run_scheduled(scheduled, packed(space, arrays, constants))[-1:]
            assert_close(actual, run_program(program, arrays)[-1:], f"{space.rule} on\n{program}")
    assert taken or rule is schedules.cpu.RULES[-1] or rule.__name__ in OF_BYTES, "no sample model has a program for this rule: add one"
