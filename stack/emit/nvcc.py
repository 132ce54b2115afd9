"""CUDA source -> machine code for one GPU architecture (a cubin). Needs NVIDIA's compiler, and no GPU.

We call the compiler ourselves: where there is no driver, TVM skips it without a word and keeps source.
"""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from stack.errors import StackError, ToolMissing

WHEELS = "pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl"
USUAL = Path("/usr/local/cuda/bin/nvcc")
EM_CUDA, ABI_OF_CUDA_13 = 190, 8


def find_nvcc() -> Path:
    """nvcc on PATH, in the usual folder, or from NVIDIA's packages on PyPI; ToolMissing otherwise."""
    found = shutil.which("nvcc")
    candidates = [Path(found)] if found else []
    candidates.append(USUAL)
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        candidates += sorted(Path(folder).glob("*/bin/nvcc"), reverse=True)  # cu13/bin/nvcc, of CUDA 12 cuda_nvcc/bin/nvcc
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ToolMissing("no CUDA compiler was found", at="nvcc on PATH, in /usr/local/cuda or in this Python", hint=WHEELS)


def compile_cubin(source: str, arch: str, work: Path) -> bytes:
    """Compile `source` for `arch` ("sm_90"). The file's name is fixed, since it goes into the result."""
    nvcc = find_nvcc()
    (work / "kernels.cu").write_text(source)
    # Not --use_fast_math, which TVM would pass: it flushes denormals and approximates division and square roots.
    command = [str(nvcc), "-cubin", f"-arch={arch}", "-O3", "-std=c++17", "-w", "-o", "kernels.cubin", "kernels.cu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work)
    if done.returncode:
        raise StackError(f"the CUDA compiler failed for {arch}", at=str(nvcc), hint=done.stderr.strip()[-2000:])
    cubin = (work / "kernels.cubin").read_bytes()
    assert cubin_arch(cubin) == arch, f"nvcc made code for {cubin_arch(cubin)}, not for {arch}"
    return cubin


def cubin_arch(cubin: bytes) -> str:
    """The architecture in a cubin's ELF header: `sm_90`.

    It stands in the lowest byte of `e_flags`, since CUDA 13 (ELF ABI version 8) in the second lowest.
    """
    is_cubin = cubin[:5] == b"\x7fELF\x02" and int.from_bytes(cubin[18:20], "little") == EM_CUDA
    assert is_cubin, "not a 64-bit cubin"
    flags = int.from_bytes(cubin[48:52], "little")
    return f"sm_{flags >> 8 & 0xFF if cubin[8] >= ABI_OF_CUDA_13 else flags & 0xFF}"
