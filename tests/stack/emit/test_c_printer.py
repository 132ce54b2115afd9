import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi

from relay_passes.integers.intrinsics import requantize
from schedules.machine import Machine
from schedules.mcu.fallback import fallback
from stack.emit.c_printer import print_function, print_kernels
from stack.errors import UnsupportedOp
from tests.stack.emit.printed import ARM, c_source, program, run_c, run_tvm, values

M4 = Machine(thumb2=True, dsp=True, fpu=True)
Made = tuple[list[te.Tensor], te.Tensor]


def tensor(*shape: int, dtype: str = "int8", name: str = "x") -> te.Tensor:
    return te.placeholder(shape, dtype, name)


def pair(*shape: int, dtype: str = "int8") -> list[te.Tensor]:
    return [tensor(*shape, dtype=dtype), tensor(*shape, dtype=dtype, name="w")]


def each(inputs: list[te.Tensor], element: Callable[..., tirx.Expr]) -> Made:
    """The program that applies `element` to the elements of its inputs."""
    return inputs, te.compute(inputs[0].shape, lambda *index: element(*[x(*index) for x in inputs]), "y")


def quantised_add() -> Made:
    def element(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        left = requantize((a.astype("int32") + 3) * (1 << 20), 1300000000, -1)
        right = requantize((b.astype("int32") - 5) * (1 << 20), 1400000000, -2)
        total = requantize(left + right, 1500000000, -18) - 1
        return te.max(te.min(total, tirx.const(127)), tirx.const(-128)).astype("int8")

    return each(pair(1, 4, 4, 16), element)


def padded_max_pool() -> Made:
    x, w = tensor(1, 8, 8, 12), tensor(1, 8, 8, 12, name="w")
    inside = topi.nn.pad(x, (0, 1, 1, 0), (0, 1, 1, 0), pad_value=tirx.const(-128, "int8"))
    rows, columns = te.reduce_axis((0, 3)), te.reduce_axis((0, 3))
    shape = (1, 8, 8, 12)
    most = te.compute(shape, lambda n, h, v, c: te.max(inside[n, h + rows, v + columns, c], axis=[rows, columns]), "most")
    return [x, w], te.compute(shape, lambda *i: (most(*i).astype("int32") - w(*i).astype("int32")) // 3, "y")


def average_pool() -> Made:
    x = tensor(1, 9, 9, 10)
    rows, columns = te.reduce_axis((0, 3)), te.reduce_axis((0, 3))

    def pixel(n: tirx.Var, h: tirx.Var, v: tirx.Var, c: tirx.Var) -> tirx.Expr:
        row, column = h * 2 + rows - 1, v * 2 + columns - 1
        inside = te.all(row >= 0, row < 9, column >= 0, column < 9)
        return te.sum(te.if_then_else(inside, x[n, row, column, c], tirx.const(0, "int8")).astype("int32"), axis=[rows, columns])

    total = te.compute((1, 5, 5, 10), pixel, "total")
    return [x], te.compute(total.shape, lambda *i: tirx.truncdiv(total(*i), tirx.const(9)).astype("int8"), "y")


def padded_product() -> Made:
    x, w = tensor(20, dtype="float32"), tensor(3, dtype="float32", name="w")
    padded = topi.nn.pad(x, (1,), (1,))
    k = te.reduce_axis((0, 3))
    return [x, w], te.compute((20,), lambda i: te.sum(padded[i + k] * w[k], axis=k), "y")


def softmax() -> Made:
    x = tensor(3, 12, dtype="float32")
    return [x], topi.nn.softmax(x)


def layer_norm() -> Made:
    x = tensor(4, 40, dtype="float32")
    centred = x - topi.sum(x, axis=1, keepdims=True) / 40.0
    return [x], centred / topi.sqrt(topi.sum(centred * centred, axis=1, keepdims=True) + 1e-3)


def arg_max() -> Made:
    x = tensor(3, 12)
    return [x], topi.argmax(x, axis=1)


def concatenate() -> Made:
    x, w = tensor(3, 12), tensor(3, 5, name="w")
    return [x, w], topi.concatenate([x, w], axis=1)


def pad_image() -> Made:
    x = tensor(1, 5, 6, 9)
    return [x], topi.nn.pad(x, (0, 1, 2, 0), (0, 3, 1, 0), pad_value=tirx.const(7, "int8"))


def transpose() -> Made:
    x = tensor(3, 12, 4, dtype="int16")
    return [x], topi.transpose(x, (2, 0, 1))


def slices() -> Made:
    x = tensor(6, 20)
    return [x], topi.strided_slice(x, [1, 2], [6, 19], [2, 3])


def gather() -> Made:
    x, w = tensor(30), tensor(8, dtype="uint8", name="w")
    return [x, w], te.compute((8,), lambda i: x[tirx.floormod(w[i].astype("int32"), 30)], "y")


def reshaped() -> Made:
    x = tensor(4, 6, 5)
    y = topi.reshape(x, (12, 10))
    return [x], te.compute((12, 10), lambda i, j: y[i, j] - tirx.const(1, "int8"), "y")


def wrapped() -> Made:
    return each(pair(20), lambda a, b: a + b * a)


def unsigned() -> Made:
    x, w = tensor(20, dtype="uint8"), tensor(20, dtype="uint32", name="w")
    return each([x, w], lambda a, b: a.astype("uint32") * b - b + (a - tirx.const(7, "uint8")).astype("uint32"))


def divisions() -> Made:
    def element(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        down = tirx.floordiv(a, 8) + tirx.floormod(b, 16) + tirx.floormod(a, 7) * 3 - tirx.floordiv(b, -5) + tirx.floormod(a, -9)
        return down + tirx.truncdiv(a, 6) - tirx.truncmod(b, 11)

    return each(pair(40, dtype="int32"), element)


def wide_divisions() -> Made:
    return each(pair(40, dtype="int64"), lambda a, b: tirx.floordiv(a * b, 77) + tirx.floormod(a * b, 1000) - tirx.floordiv(a, 4))


def shifts() -> Made:
    def element(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        wrapped = (a << 20) ^ ((b & 15) << 3)
        return (wrapped >> 5) + (tirx.const(1) << (b & 7)) - (~a | 3)

    return each(pair(40, dtype="int32"), element)


def wide_products() -> Made:
    def element(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        total = (a.astype("int64") * b.astype("int64") + (1 << 30)) >> tirx.const(31, "int64")
        return te.max(te.min(total, tirx.const(100, "int64")), tirx.const(-100, "int64")).astype("int32")

    return each(pair(40, dtype="int32"), element)


def booleans() -> Made:
    return each(pair(20, dtype="bool"), lambda a, b: tirx.any(tirx.all(a, b), tirx.Not(a)))


def comparisons() -> Made:
    return each(pair(40), lambda a, b: tirx.Select(a > b, a, tirx.Select(tirx.const(3, "int8") <= b, b - a, tirx.abs(a))))


def functions() -> Made:
    def element(a: tirx.Expr) -> tirx.Expr:
        rounded = tirx.floor(a) + tirx.ceil(a) + tirx.round(a * 2.0) + tirx.nearbyint(a * 2.0) + tirx.trunc(a)
        smooth = tirx.exp(a) + tirx.tanh(a) * tirx.sigmoid(a) + tirx.erf(a) + tirx.sqrt(tirx.abs(a)) + tirx.rsqrt(tirx.abs(a) + 1.0)
        return rounded + smooth + tirx.max(tirx.min(a, tirx.const(0.5, "float32")), tirx.const(-0.25, "float32"))

    return each([tensor(64, dtype="float32")], element)


def halves() -> Made:
    """What lies between two integers is rounded as in TVM."""
    return each([tensor(40)], lambda a: tirx.round(a.astype("float32") * 0.5) + tirx.nearbyint(a.astype("float32") * 0.5) * 1000.0)


def doubles() -> Made:
    return each([tensor(20, dtype="float64")], lambda a: tirx.exp(a) * 0.1 + tirx.max(a, tirx.const(0.0, "float64")))


def large_intermediate() -> Made:
    x = tensor(40, 30, dtype="float32")
    rows = te.compute((40,), lambda i: te.sum(x[i, k], axis=k), "rows") if (k := te.reduce_axis((0, 30))) is not None else x
    everywhere = te.reduce_axis((0, 40))
    return [x], te.compute((40, 30), lambda i, j: te.sum(rows[everywhere] * x[i, j], axis=everywhere), "y")


PROGRAMS: list[Callable[[], Made]] = [
    quantised_add, padded_max_pool, average_pool, padded_product, softmax, layer_norm, arg_max, concatenate, pad_image, transpose, 
    slices, gather, reshaped, wrapped, unsigned, divisions, wide_divisions, shifts, wide_products, booleans, comparisons, functions, halves,
    doubles, large_intermediate,
]  # fmt: skip


def forms(function: tirx.PrimFunc) -> Iterator[tirx.PrimFunc]:
    """The program as it is and as the last rule schedules it."""
    yield function
    space = fallback(function, M4)
    yield space.apply(space.default).mod["main"]


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_c_computes_what_llvm_computes(make: Callable[[], Made], tmp_path: Path) -> None:
    inputs, output = make()
    function = program(inputs, output)
    arrays = values(inputs)
    expected = run_tvm(function, arrays)
    for form in forms(function):
        result = run_c(form, arrays, tmp_path)
        if result.dtype.kind == "f":
            assert np.allclose(result, expected, rtol=1e-5, atol=1e-6)
        else:
            assert (result == expected).all()


def test_all_of_them_compile_for_arm_without_a_warning(tmp_path: Path) -> None:
    parts = []
    for make in PROGRAMS:
        inputs, output = make()
        for form in forms(program(inputs, output)):
            parts.append(c_source(form)[0])
    for index, part in enumerate(parts):
        (tmp_path / f"{index}.c").write_text(part)
    files = [f"{index}.c" for index in range(len(parts))]
    subprocess.run(["arm-none-eabi-gcc", *ARM, *files], check=True, cwd=tmp_path)


def text(make: Callable[[], Made]) -> str:
    """The function that the last rule and the printer make of a program."""
    *_, form = forms(program(*make()))
    return print_function(form, "f").source


def test_an_elementwise_program_is_one_loop() -> None:
    assert text(lambda: each(pair(2, 20), lambda a, b: tirx.max(a, b))) == (
        "static void f(const int8_t *x, const int8_t *w, int8_t *y) {\n"
        "  #pragma GCC unroll 8\n"
        "  for (int i = 0; i < 40; i++) {\n"
        "    y[i] = stack_max(x[i], w[i]);\n"
        "  }\n"
        "}\n"
    )


def test_padding_becomes_the_ends_of_loops() -> None:
    source = text(padded_product)
    assert "for (int ax0_1 = stack_max(0, 1 - ax0); ax0_1 < stack_min(3, 21 - ax0); ax0_1++) {" in source
    assert "acc = stack_macf(acc, x[ax0 + ax0_1 - 1], w[ax0_1]);" in source


def test_a_concatenation_is_copies() -> None:
    assert "memcpy(concat + ax0 * 17, x + ax0 * 12, 12);" in text(concatenate)


def test_sums_of_neighbouring_channels_share_their_loops() -> None:
    x = tensor(1, 8, 8, 64, dtype="int32")
    source = text(lambda: ([x], topi.sum(x, axis=[1, 2])))
    assert source.count("for (") == 3
    assert all(f"acc{channel} += x[" in source for channel in range(4))


def test_a_sum_is_computed_in_a_variable() -> None:
    source = text(lambda: ([x := tensor(4, 40, dtype="int32")], topi.sum(x, axis=1)))
    assert "int32_t acc = 0;" in source
    assert "scratch" not in source


def test_a_truth_is_not_compared_with_zero() -> None:
    source = text(lambda: each(pair(8), lambda a, b: tirx.Select((a < b).astype("int32") > 0, a, b)))
    assert "y[i0] = x1 < w1 ? x1 : w1;" in source


def test_a_name_ends_where_what_it_read_is_written() -> None:
    """y[i] = x[i] * x[i]; x[i] += 1; y[i + 4] = x[i] * x[i]: the last must read again."""
    x, y = tirx.decl_buffer((4,), "int32", "x"), tirx.decl_buffer((8,), "int32", "y")
    i = tirx.Var("i", "int32")
    old = tirx.BufferLoad(x, [i]) * tirx.BufferLoad(x, [i])
    stores = [
        tirx.BufferStore(y, old, [i]),
        tirx.BufferStore(x, tirx.BufferLoad(x, [i]) + 1, [i]),
        tirx.BufferStore(y, old, [i + 4]),
    ]
    function = tirx.PrimFunc([x, y], tirx.For(i, 0, 4, tirx.ForKind.SERIAL, tirx.SeqStmt(stores)))
    source = print_function(function, "f").source
    assert source.count("= x[i];") == 2


def test_what_repeats_gets_a_name_unless_a_condition_guards_it() -> None:
    x = tensor(8)
    squares = te.compute((8,), lambda i: (x[i] + x[i]) * (x[i] + x[i]), "y")
    assert print_function(program([x], squares), "f").source.count("x[i]") == 1
    guarded = te.compute((8,), lambda i: te.if_then_else(i * i < 9, x[i] * x[i], tirx.const(0, "int8")), "y")
    assert print_function(program([x], guarded), "f").source.count("x[i]") == 2


def test_indices_of_64_bits_are_counted_in_32() -> None:
    x = tensor(4, 8)
    function = te.create_prim_func([x, te.compute((4, 8), lambda i, j: x[3 - i, j], "y")], index_dtype_override="int64")
    assert "int64" not in print_function(function, "f").source


def test_large_buffers_go_to_scratch_memory_small_ones_stay() -> None:
    assert print_function(program(*large_intermediate()), "f").scratch == 0
    kernel = print_function(program(*padded_max_pool()), "f")
    assert kernel.scratch == 1200 + 768
    assert "void *scratch)" in kernel.source


def test_an_output_may_lie_over_inputs_that_are_read_in_step() -> None:
    module = tvm.IRModule({"add": program(*quantised_add()), "turn": program(*transpose()), "wide": program(*wide_products())})
    printed = print_kernels(module)
    overlaps = {name.name_hint: json.loads(str(function.attrs["stack.overlap"])) for name, function in printed.functions.items()}
    assert overlaps == {"add": {"0": [0, False], "1": [0, False]}, "turn": {}, "wide": {"0": [0, False], "1": [0, False]}}
    assert "restrict" not in str(printed["add"].attrs["stack.c"])
    assert "restrict" in str(printed["turn"].attrs["stack.c"])


def test_a_kernel_that_a_rule_wrote_stays() -> None:
    function = program(*quantised_add()).with_attr("stack.c", "static void KERNEL(void) {}")
    assert str(print_kernels(tvm.IRModule({"f": function}))["f"].attrs["stack.c"]) == "static void KERNEL(void) {}"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int4"])
def test_types_that_c_has_not_are_refused(dtype: str) -> None:
    x = tensor(8, dtype=dtype)
    with pytest.raises(UnsupportedOp) as error:
        print_function(program([x], te.compute((8,), lambda i: x[i] + x[i], "y")), "layer_3")
    assert str(error.value).startswith(f"error: the type {dtype} cannot be written in C for microcontrollers\n  at: layer_3\n  hint: ")


def test_operators_that_c_has_not_are_refused() -> None:
    x = tensor(8, dtype="int32")
    function = program([x], te.compute((8,), lambda i: tirx.q_multiply_shift(x[i], x[i], tirx.const(31), tirx.const(2)), "y"))
    with pytest.raises(UnsupportedOp, match="the operator q_multiply_shift cannot be written in C for microcontrollers"):
        print_function(function, "f")
