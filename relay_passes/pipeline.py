"""The graph passes in order, with the reason for each place. A new pass is one file and one line here."""

from tvm import relax
from tvm.ir.transform import Pass

from schedules.machine import Machine
from relay_passes.plan_memory import plan_memory

t = relax.transform


def cpu_passes(machine: Machine) -> list[Pass]:
    return [
        t.DecomposeOpsForInference(),
        t.FoldConstant(),
        *to_programs(),
    ]


def gpu_passes(machine: Machine) -> list[Pass]:
    """Plain NCHW throughout: the GPU rules read it as it is."""
    return [
        t.DecomposeOpsForInference(),
        t.FoldConstant(),
        *to_programs(),
    ]


def to_programs() -> list[Pass]:
    """Relax operators -> fused TensorIR programs in one arena."""
    return [
        t.LegalizeOps(enable_warning=False),
        t.AnnotateTIROpPattern(),
        t.FoldConstant(),
        t.FuseOps(),
        t.FuseTIR(),
        t.DeadCodeElimination(),
        t.RewriteDataflowReshape(),
        t.ToNonDataflow(),
        t.RemovePurityChecking(),
        t.CallTIRRewrite(),
        t.CanonicalizeBindings(),
        plan_memory,
    ]
