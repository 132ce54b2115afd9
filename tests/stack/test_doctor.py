import importlib.metadata

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
