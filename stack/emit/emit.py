"""Write all files of a library into a folder: what the container needs, then `manifest.json` with the hash of each."""

import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import tvm
from tvm import tirx

from stack import manifest as manifests
from stack.emit import cuda, kernels, native
from stack.emit.library_sources import NOTHING, Attached
from stack.emit.program import Step, read_program, said_of
from stack.frontends.model import Signature
from targets.target import Family, Target


def emit(
    signature: Signature,
    module: tvm.IRModule,
    target: Target,
    family: Family,
    folder: Path,
    on_progress: Callable[[int, int], None],
    attached: Attached = NOTHING,
) -> None:
    """Emit the scheduled `module` into `folder`, with what is `attached`: files to a C project, and words to the manifest."""
    name = native.c_name(signature.name)
    if family.container == "c":
        from stack.emit import c_project

        written = c_project.write(name, signature, module, target, folder, on_progress, attached)
    else:
        written = write_binary(name, signature, module, target, family, folder, on_progress)
    manifest = {
        "format": manifests.FORMAT,
        "name": name,
        "container": family.container,
        "target": describe(target),
        "machine": asdict(target.machine),
        "versions": {package: importlib.metadata.version(package) for package in ("stack-compiler", "apache-tvm")},
        **written,
        **attached.said,
        "files": {file.relative_to(folder).as_posix(): manifests.sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()},
    }
    (folder / manifests.NAME).write_text(json.dumps(manifest, indent=1) + "\n")


def describe(target: Target) -> dict[str, object]:
    """What the manifest says of the target; of a board, which may be in a file of the user's own, all that it takes to run there."""
    named: dict[str, object] = {
        "name": target.name,
        "family": target.family,
        "features": list(target.features),
        "codegen": dict(target.codegen),
    }
    if not target.memory:
        return named
    return named | {"summary": target.summary, "memory": [asdict(memory) for memory in target.memory], "board": dict(target.board)}


def write_binary(
    name: str,
    signature: Signature,
    module: tvm.IRModule,
    target: Target,
    family: Family,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> dict[str, object]:
    """A shared library and its weights; returns what the manifest says of them."""
    names = [state.name for state in signature.states]  # where nothing keeps them, states are inputs and outputs like others
    program = read_program(module, [*signature.input_names, *names], [*signature.output_names, *names])
    programs = {g.name_hint: f for g, f in module.functions.items() if isinstance(f, tirx.PrimFunc)}
    used = sorted({step.kernel for step in program.steps if step.kernel})
    with tempfile.TemporaryDirectory(prefix="stack-build-") as work:
        if family.container == "cuda":
            cuda.write(name, program, [programs[kernel] for kernel in used], target, folder, Path(work), on_progress)
        else:
            objects = kernels.build_objects([programs[kernel] for kernel in used], target, Path(work), on_progress)
            (folder / f"{name}.h").write_text(native.header(name, program, target.name))
            native.link(name, native.source(name, program), objects, folder, Path(work))
    program.write_weights(folder / "weights.bin")
    return {
        "inputs": [asdict(tensor) for tensor in program.inputs],
        "outputs": [asdict(tensor) for tensor in program.outputs],
        "arena_bytes": program.arena_bytes,
        "weight_bytes": program.weight_bytes,
        "operators": [operator(step, programs) for step in program.steps],
    }


def operator(step: Step, programs: Mapping[str, tirx.PrimFunc]) -> dict[str, object]:
    """What the profiler needs to know of one step."""
    if step.kernel is None:
        return {"kernel": "copy", "rule": "copy", "decision": {}, "source": "", "flops": 0, "bytes": 2 * step.bytes}
    return {
        "kernel": step.kernel,
        **said_of(programs[step.kernel]),
    }
