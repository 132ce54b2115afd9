"""The graph passes in order, with the reason for each place. A new pass is one file and one line here."""

from collections.abc import Callable, Mapping

from tvm import relax
from tvm.ir.transform import Pass

from relay_passes.block_layout import block_layout
from relay_passes.bytes.lower_bytes import lower_bytes
from relay_passes.bytes.quantize import lower_dequantize, lower_quantize
from relay_passes.bytes.separate_dequantize import separate_dequantize
from relay_passes.bytes.stay_real import stay_real
from relay_passes.canonicalize_ops import canonicalize_ops
from relay_passes.channels_first import channels_first
from relay_passes.choices import Choices
from relay_passes.drop_uncalled import drop_uncalled
from relay_passes.flatten_conv3d import flatten_conv3d
from relay_passes.flatten_reductions import flatten_reductions
from relay_passes.fold_batch_norm import fold_batch_norm
from relay_passes.fold_constants import fold_constants
from relay_passes.fold_pad import fold_pad
from relay_passes.fold_remaining import fold_remaining
from relay_passes.fold_transposes import fold_transposes
from relay_passes.fuse_attention import fuse_attention
from relay_passes.integers.lower_integers import lower_integers
from relay_passes.lift_programs import lift_programs
from relay_passes.lower_attention import lower_attention
from relay_passes.lower_conv2d import lower_conv2d
from relay_passes.lower_matmul import lower_matmul
from relay_passes.lower_pool2d import lower_avg_pool2d, lower_max_pool2d
from relay_passes.lower_softmax import lower_softmax
from relay_passes.name_programs import name_programs
from relay_passes.plan_memory import plan_memory
from relay_passes.share_subexpressions import share_subexpressions
from relay_passes.sink_reshapes import sink_reshapes
from relay_passes.split_conv_transpose import split_conv_transpose
from relay_passes.widen_half import widen_half
from schedules.machine import Machine

t = relax.transform
Lowering = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def cpu_passes(machine: Machine, choices: Choices) -> list[Pass]:
    return [
        *simplify(widen_half, lower_bytes(machine, choices), channels_first),
        fuse_attention(machine, choices),  # once scales and transposes have settled
        fold_transposes,  # the ones that it adds meet the ones that it leaves
        block_layout(machine.lanes(), choices),  # after the folding, which knows plain layouts only
        t.CanonicalizeBindings(),
        share_subexpressions,  # one conversion between layouts serves every reader
        flatten_reductions,  # layouts are settled: what is innermost now stays so
        separate_dequantize,  # what is read as bytes becomes real numbers where they are used
        stay_real,  # once each dequantize has one reader
        t.CanonicalizeBindings(),
        *to_programs(
            {
                "relax.quantize": lower_quantize,
                "relax.dequantize": lower_dequantize,
                "relax.nn.conv2d": lower_conv2d,
                "relax.nn.max_pool2d": lower_max_pool2d,
                "relax.nn.avg_pool2d": lower_avg_pool2d,
                "relax.matmul": lower_matmul(machine),
                "relax.nn.softmax": lower_softmax,
                "relax.nn.attention": lower_attention,
                "relax.nn.attention_bias": lower_attention,
            }
        ),
    ]


def gpu_passes(machine: Machine, choices: Choices) -> list[Pass]:
    """Plain NCHW throughout: the GPU rules read it as it is."""
    return [
        *simplify(channels_first),
        *to_programs(),
    ]


def mcu_passes(machine: Machine, choices: Choices) -> list[Pass]:
    """Straight calls of programs; where their tensors lie is for the emitter to say, who also knows what kernels overwrite."""
    return [
        *simplify(lower_integers),  # before constants are folded: the weights are still integers
        *to_calls({"relax.nn.softmax": lower_softmax}),
    ]


def simplify(*first: Pass) -> list[Pass]:
    """Fewer operators of fewer kinds, whatever the machine; `first` are passes that one kind of machine needs on top."""
    return [
        t.ConvertToDataflow(),  # our own passes read one dataflow block
        t.CanonicalizeBindings(),
        lift_programs,  # first, so that the rest sees operators instead of loops
        *first,
        fold_constants,  # exporters leave arithmetic on constants, which hides what an operand is
        canonicalize_ops,
        fold_pad,  # before transposes and reshapes move away from their convolution
        flatten_conv3d,  # before transposes: those that it adds cancel between two layers
        fold_transposes,  # before reshapes: transposes cancel across unit axes, reshapes only step aside
        sink_reshapes,
        fold_batch_norm,  # a scale behind a reshape has now met its layer
        split_conv_transpose,  # after it: a scale per channel is easier to fold into one transposed convolution
        fold_constants,  # weights that the passes above wrapped in reshapes and transposes
        share_subexpressions,  # last: what differed in form above is the same by now
        t.DecomposeOpsForInference(),  # what is left: normalisations with computed statistics, dropout
        fold_remaining,  # the few operators on constants that our table lacks
        t.CanonicalizeBindings(),  # no copies `y = x` for fusion to stop at
    ]


def to_programs(lowerings: Mapping[str, Lowering] | None = None) -> list[Pass]:
    """Relax operators -> fused TensorIR programs in one arena."""
    return [*to_calls(lowerings), plan_memory, drop_uncalled]  # the last for copies that planning makes needless


def to_calls(lowerings: Mapping[str, Lowering] | None = None) -> list[Pass]:
    """Relax operators -> fused TensorIR programs, called one after the other; `lowerings` take the place of TVM's for some operators."""
    return [
        t.LegalizeOps(dict(lowerings or {}), enable_warning=False),
        t.AnnotateTIROpPattern(),
        fold_remaining,  # what legalisation made of constants
        t.FuseOps(),
        t.FuseTIR(),
        t.DeadCodeElimination(),
        name_programs,
        t.RewriteDataflowReshape(),
        t.ToNonDataflow(),
        t.RemovePurityChecking(),
        t.CallTIRRewrite(),
        t.CanonicalizeBindings(),
    ]
