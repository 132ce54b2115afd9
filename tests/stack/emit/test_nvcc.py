"""Finding and calling NVIDIA's compiler, and reading what it made."""

from pathlib import Path

import pytest

from stack.emit import nvcc
from stack.errors import StackError, ToolMissing


def header(flags: int, abi: int, machine: int = 190) -> bytes:
    """The first 64 bytes of an ELF file as far as we read them."""
    data = bytearray(64)
    data[:5], data[8] = b"\x7fELF\x02", abi
    data[18:20], data[48:52] = machine.to_bytes(2, "little"), flags.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("flags", "abi", "arch"),
    [(0x6005004, 8, "sm_80"), (0x6005A04, 8, "sm_90"), (0x500550, 7, "sm_80"), (0x5A055A, 7, "sm_90")],
)
def test_the_architecture_is_read_from_old_and_new_cubins(flags: int, abi: int, arch: str) -> None:
    assert nvcc.cubin_arch(header(flags, abi)) == arch


def test_what_is_no_cubin_has_no_architecture() -> None:
    with pytest.raises(AssertionError, match="not a 64-bit cubin"):
        nvcc.cubin_arch(header(0, 0, machine=62))


def test_without_a_compiler_the_error_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(nvcc, "USUAL", Path("/nowhere/nvcc"))
    monkeypatch.setattr(nvcc, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="no CUDA compiler was found") as raised:
        nvcc.find_nvcc()
    assert raised.value.hint
    assert raised.value.hint.startswith("pip install nvidia-cuda-nvcc ")


def test_the_compiler_of_the_packages_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    (tmp_path / "cu13/bin").mkdir(parents=True)
    (tmp_path / "cu13/bin/nvcc").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(nvcc, "USUAL", Path("/nowhere/nvcc"))
    monkeypatch.setattr(nvcc, "find_spec", lambda name: Spec())
    assert nvcc.find_nvcc() == tmp_path / "cu13/bin/nvcc"


def test_what_the_compiler_says_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = tmp_path / "nvcc"
    failing.write_text("#!/bin/sh\necho kernels.cu: no such thing >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: failing)
    with pytest.raises(StackError, match="the CUDA compiler failed for sm_90") as raised:
        nvcc.compile_cubin("", "sm_90", tmp_path)
    assert raised.value.hint == "kernels.cu: no such thing"
