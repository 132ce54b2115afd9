"""The C container: a project of C99 files that builds with any compiler for the core, and for a board flashes as it is.

model.h, model.c, weights.c, what builds them (from the family), and report.html. No malloc, no operating system, no TVM.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

import tvm
from tvm import tirx

from relay_passes.integers.lower_integers import FLOAT_ISLANDS
from stack.emit import c_model, c_report
from stack.emit.arena import ON_STACK, Buffer
from stack.emit.c_network import Layer, Network, read_network
from stack.emit.c_printer import print_kernels
from stack.emit.library_sources import Attached
from stack.emit.placement import Placement, place_network
from stack.emit.program import said_of
from stack.frontends.model import Signature
from targets.target import Target


def write(
    name: str,
    signature: Signature,
    module: tvm.IRModule,
    target: Target,
    folder: Path,
    on_progress: Callable[[int, int], None],
    attached: Attached,
) -> dict[str, object]:
    """Write the sources into `folder`; returns what the manifest says of them."""
    module = print_kernels(module)
    network = read_network(module, signature, name)
    placement = place_network(network, target.memory, target.name)
    programs = {g.name_hint: f for g, f in module.functions.items() if isinstance(f, tirx.PrimFunc)}
    described = {
        **describe(network, placement, signature, programs),
        "library_sources": [title for title in attached.files if title.endswith(".c")],
        **attached.said,
        "float_islands": [str(entry) for entry in (module.attrs or {}).get(FLOAT_ISLANDS, [])],
    }
    for title, text in attached.files.items():
        (folder / title).parent.mkdir(exist_ok=True, parents=True)
        (folder / title).write_text(text)
    (folder / "model.h").write_text(c_model.header(name, network, placement, signature, target.name))
    (folder / "model.c").write_text(c_model.source(name, network, placement, programs, target.name))
    (folder / "weights.c").write_text(c_model.weights(name, network, placement))
    (folder / "report.html").write_text(c_report.page(name, target.name, described))
    project = import_module(f"targets.{target.family}.project")
    files: Mapping[str, str] = project.board_files(target, name, described)
    for title, text in files.items():
        (folder / title).write_text(text)
    on_progress(1, 1)
    return described | {"editable": sorted(files)}


def describe(network: Network, placement: Placement, signature: Signature, programs: Mapping[str, tirx.PrimFunc]) -> dict[str, object]:
    quantization = {title: asdict(value) for title, value in signature.quantization.items()}
    return {
        "inputs": [asdict(tensor) for tensor in network.inputs],
        "outputs": [asdict(tensor) for tensor in network.outputs],
        "input_names": c_model.identifiers(network.inputs, "input"),
        "output_names": c_model.identifiers(network.outputs, "output"),
        "quantization": quantization,
        "states": [{"name": state.name, "shape": list(state.initial.shape), "dtype": str(state.initial.dtype)} for state in network.states],
        "arena_bytes": sum(placement.arenas),
        "arenas": [
            {"parameter": title, "bytes": size, "memory": ram.name if ram else None}
            for title, size, ram in zip_longest(c_model.arena_names(placement), placement.arenas, placement.rams[: len(placement.arenas)])
        ],
        "arena": [buffer_entry(buffer) for buffer in network.buffers if buffer.memory != ON_STACK],
        "weight_bytes": sum(weight.array.nbytes for weight in network.weights),
        "operators": [operator(layer, programs) for layer in network.layers],
    }


def buffer_entry(buffer: Buffer) -> dict[str, object]:
    return {key: getattr(buffer, key) for key in ("name", "offset", "bytes", "memory", "first", "last", "scratch")}


def operator(layer: Layer, programs: Mapping[str, tirx.PrimFunc]) -> dict[str, object]:
    """What the profiler and the report need to know of one layer."""
    if layer.kernel is None:
        return {
            "kernel": "copy",
            "rule": "copy",
            "decision": {},
            "source": "",
            "flops": 0,
            "bytes": 0,
            "macs": 0,
            "weight_bytes": 0,
            "shapes": "",
        }
    return {
        "kernel": layer.kernel,
        **said_of(programs[layer.kernel]),
        "macs": layer.macs,
        "weight_bytes": layer.weight_bytes,
        "shapes": layer.shapes,
    }
