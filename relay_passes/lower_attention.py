"""nn.attention as the program that the CPU rule knows: scores, softmax with one division a row, and the sum of values.

q [batch, rows, heads, depth], k [batch, keys, heads, depth], v [batch, keys, heads, columns] and where there is one a mask of
[batch or 1, heads or 1, rows or 1, keys]  ->  [batch, rows, heads, columns]
"""

from tvm import relax, te, tirx

BLOCK, SCALE = "attention_scores", "stack.attention_scale"
OPAQUE = 8  # TVM's operator pattern: nothing is fused with it


def attention(q: te.Tensor, k: te.Tensor, v: te.Tensor, mask: te.Tensor | None, scale: float) -> te.Tensor:
    batch, rows, heads, depth = (int(extent) for extent in q.shape)
    keys, columns = int(k.shape[1]), int(v.shape[3])
    along = [te.reduce_axis((0, extent), name) for extent, name in ((depth, "d"), (keys, "t"), (keys, "t"), (keys, "t"))]
    full = (batch, heads, rows, keys)
    scores = te.compute(full, lambda b, h, i, j: te.sum(q[b, i, h, along[0]] * k[b, j, h, along[0]], axis=along[0]), name=BLOCK)

    def add_mask(*at: tirx.Expr) -> tirx.Expr:
        value = scores[at] * tirx.const(scale, "float32")
        if mask is None:
            return value
        return value + mask[tuple(i if int(extent) != 1 else tirx.const(0, "int64") for i, extent in zip(at, mask.shape, strict=True))]

    scaled = te.compute(full, add_mask, name="attention_scaled")
    top = te.compute(full[:3], lambda *at: te.max(scaled[(*at, along[1])], axis=along[1]), name="attention_max")
    e = te.compute(full, lambda *at: te.exp(scaled[at] - top[at[:3]]), name="attention_exp")
    total = te.compute(full[:3], lambda *at: te.sum(e[(*at, along[2])], axis=along[2]), name="attention_sum")
    mixed = te.compute(
        (batch, rows, heads, columns),
        lambda b, i, h, c: te.sum(e[b, h, i, along[3]] * v[b, along[3], h, c], axis=along[3]),
        name="attention_mix",
    )
    return te.compute((batch, rows, heads, columns), lambda b, i, h, c: mixed[b, i, h, c] / total[b, h, i], name="attention")


def lower_attention(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A legalisation of `relax.nn.attention` and `relax.nn.attention_bias`."""
    tensors = [
        te.placeholder(tuple(int(extent) for extent in operand.ty.shape), "float32", name="qkvm"[i]) for i, operand in enumerate(call.args)
    ]
    scale = float(call.attrs.scale.value) if call.attrs.scale is not None else int(call.args[0].ty.shape[3]) ** -0.5
    out = attention(tensors[0], tensors[1], tensors[2], tensors[3] if len(tensors) > 3 else None, scale)
    program = te.create_prim_func([*tensors, out], index_dtype_override="int64").without_attr("global_symbol")
    program = program.with_attrs({"op_pattern": OPAQUE, SCALE: tirx.const(scale, "float32")})
    return relax.call_tir(builder.add_func(program, "attention"), list(call.args), call.ty)
