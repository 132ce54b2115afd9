import pytest
import tvm
from tvm import relax

from relay_passes.choices import Choices
from relay_passes.fuse_attention import fuse_attention
from schedules.machine import Machine

op, MACHINE = relax.op, Machine()


def module(form: str, rows: int = 5, keys: int = 5) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    heads = (2, 3) if form != "no heads" else (2,)
    shape = (*heads, keys, 8)
    q, k, v = (relax.Var(name, relax.TensorType((*heads, rows if name == "q" else keys, 8), "float32")) for name in "qkv")
    mask = relax.Var("mask", relax.TensorType((2, 1, 1, keys), "float32"))
    with builder.function("main", [q, k, v, mask]):
        with builder.dataflow():
            turned = builder.emit(op.permute_dims(k, [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]))
            scores = builder.emit(op.matmul(q, turned))
            if form != "plain":
                scores = builder.emit(op.divide(scores, relax.const(2.0, "float32")))
            if form == "mask":
                scores = builder.emit(op.add(scores, mask))
            weights = builder.emit(op.nn.softmax(scores, axis=1 if form == "other axis" else -1))
            out = builder.emit_output(op.matmul(weights, v))
        builder.emit_func_output(out)
    return builder.get()


def fused(form: str) -> str:
    """What the pass makes of the module where it is told to fuse."""
    asked = Choices()
    fuse_attention(MACHINE, asked)(module(form))
    return fuse_attention(MACHINE, Choices(dict.fromkeys(asked.places, "fused")))(module(form))["main"].script()


@pytest.mark.parametrize(("form", "scale"), [("plain", 1.0), ("scale", 0.5), ("mask", 0.5), ("no heads", 0.5)])
def test_attention_becomes_one_operator(form: str, scale: float) -> None:
    text = fused(form)
    assert "softmax" not in text
    assert "nn.attention" in text
    assert f"scale=T.float32({scale})" in text or f"scale={scale}" in text or f"float32({scale}" in text


def test_small_scores_stay_separate_unless_chosen_and_other_axes_always() -> None:
    choices = Choices()
    assert "nn.attention" not in fuse_attention(MACHINE, choices)(module("mask"))["main"].script()
    assert list(choices.places.values()) == [("separate", "fused")]
    assert "nn.attention" not in fused("other axis")


@pytest.mark.parametrize(("rows", "keys", "first"), [(64, 64, "fused"), (32, 32, "separate"), (1, 4096, "separate")])
def test_the_default_is_fused_where_scores_are_large_and_rows_many(rows: int, keys: int, first: str) -> None:
    choices = Choices()
    fuse_attention(MACHINE, choices)(module("mask", rows, keys))
    (options,) = choices.places.values()
    assert options[0] == first
