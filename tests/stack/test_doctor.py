import importlib.metadata
import shutil
from pathlib import Path

from stack import doctor


def test_a_version_other_than_the_pinned_one_is_missing(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1.15.post2" if name == "apache-tvm-ffi" else real(name))
    (finding,) = (finding for finding in doctor.packages() if finding.what.startswith("apache-tvm-ffi"))
    assert (finding.what, finding.found, finding.state) == ("apache-tvm-ffi==0.1.14.post1", "0.1.15.post2", "MISSING")
    assert finding.command.endswith("-m pip install 'apache-tvm-ffi==0.1.14.post1'")


def test_a_peer_that_is_not_installed_is_optional(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "openvino":
            raise importlib.metadata.PackageNotFoundError
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    (finding,) = (finding for finding in doctor.packages() if finding.what.startswith("openvino"))
    assert (finding.found, finding.state) == ("-", "optional")


def test_each_package_is_listed_once_and_the_core_is_needed():
    findings = {finding.what: finding for finding in doctor.packages()}
    assert len(findings) == len(list(doctor.packages()))
    assert findings["apache-tvm==0.27.0.post1"].needed
    assert not next(finding for what, finding in findings.items() if what.startswith("onnxruntime")).needed


def test_tools_for_firmware_come_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    findings = {finding.what.split(",")[0]: finding for finding in doctor.firmware_tools()}
    for name in ("arm-none-eabi-gcc", "newlib"):
        assert findings[name].command == "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
    assert findings["qemu-system-arm"].command == "apt-get install qemu-system-arm"
    assert findings["pyocd"].command == "pip install pyocd"
    assert {finding.state for finding in findings.values()} == {"optional"}


def test_a_tool_for_firmware_that_is_there_is_shown_with_its_place(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    monkeypatch.setattr(doctor.toolchain, "find_newlib", lambda: Path("/opt/libc.a"))
    findings = {finding.what.split(",")[0]: finding for finding in doctor.firmware_tools() if finding.what.startswith(("qemu", "openocd"))}
    assert {name: (finding.found, finding.state) for name, finding in findings.items()} == {
        "qemu-system-arm": ("/opt/qemu-system-arm", "ok"),
        "openocd": ("/opt/openocd", "ok"),
    }
