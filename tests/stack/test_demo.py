import pytest

from stack import bench, demo
from stack.errors import ToolMissing

CONFIG = {"block_size": 8, "padding_token": 256, "beg_size": 4, "end_size": 4}


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (b"  abcdefghijkl  \n", b"abcd" + b"ijkl"),  # longer than a block: each end loses its blanks
        (b" ab ", [97, 98, 256, 256, 256, 256, 97, 98]),  # shorter: padded, and without blanks on either side
        (b"", [256] * 8),
    ],
)
def test_a_file_becomes_its_first_and_last_bytes(content, row):
    assert demo.tokens(content, CONFIG).tolist() == [list(row)]


def test_a_missing_package_comes_with_the_command(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing) as caught:
        demo.model_folder()
    assert str(caught.value) == "error: the package with the demo's model is not installed\n  hint: pip install --no-deps magika"


def test_the_demo_gives_the_answer_of_the_peer(capfd, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    try:
        demo.model_folder()
    except ToolMissing:
        pytest.skip("magika is not installed")
    monkeypatch.setattr(bench, "SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hello.c"
    file.write_text('#include <stdio.h>\n\nint main(void) {\n  printf("hello\\n");\n  return 0;\n}\n' * 20)
    demo.main(file)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[1] == f"what is {file}?"
    assert lines[2].startswith("  stack        c, score ")
    assert lines[3].startswith("  onnxruntime  c, score ")
    assert float(lines[4].split()[-1]) < 1e-4
    assert lines[-1] == f"the library lies in {tmp_path / 'demo-library'}; run it with `stackc run demo-library`"
    assert (tmp_path / "demo-library/manifest.json").is_file()
