"""The page about tuning, which shows whatever the database has."""

import pytest

from schedules.tuning.database import Record, Scope
from stack.tuning.about import About
from stack.tuning.page import page, write
from stack.tuning.progress import TaskRow

SCOPE = Scope("x86", "0", "0")


def record(program: str, tile: int, cost: float | None, moment: float, failure: str | None = None) -> Record:
    point = {"tile": tile, "order": "rows" if tile % 2 else "columns"}
    return Record(program, "conv2d", SCOPE, point, cost, "seconds", failure=failure, detail="<boom>", device="a CPU", moment=moment)


@pytest.fixture
def about() -> About:
    records = [record("k", tile, 1e-3 * tile, 10.0 * (9 - tile)) for tile in range(8, 0, -1)]
    records.append(record("k", 9, None, 100.0, "crashed"))
    unseen = {"of": "unseen", "programs": 1, "count": 8, "pairwise": 0.91, "first": 0.98, "of_eight": 1.0}
    batch = {"of": "batch", "program": "k", "seen": 0, "count": 8, "pairs": 28, "pairwise": 0.9, "first": 0.9, "of_eight": 1.0}
    log = {"rounds": [{"trials": 4, **batch}, {"trials": 8, **unseen}], "predicted": [["k", 0.5, 2e-3], ["k", 1.5, 1e-3], ["k", 0.0, None]]}
    row = TaskRow("k", "conv<2d>", "conv2d", 2, 9, 8e-3, 1e-3, None, None, 9)
    alone = TaskRow("r", "reshape", "elementwise", 1, 1, 1e-5, 1e-5, None, None, 1)
    best = {"k": records[7], "r": records[7]}
    defaults = {"k": {"tile": 8, "order": "columns"}, "r": {}}
    return About("net.onnx", "x86", "a CPU", "seconds", [row, alone], records, defaults, best, log, {"attention/0": "fused"})


def test_it_has_every_part_and_needs_no_network(about):
    text = page(about)
    assert text.count("<svg") == 4
    for part in ("Tuning of net.onnx for x86", "9 measurements of 2 programs on a CPU", "2.01 ms", "16 ms", "0.910", "crashed"):
        assert part in text
    assert "conv&lt;2d&gt;" in text
    assert "conv<2d>" not in text
    assert "&lt;boom&gt;" in text
    assert "<boom>" not in text
    assert "{&quot;order&quot;: &quot;rows&quot;, &quot;tile&quot;: 1}" in text
    assert "attention/0: fused" in text
    for place in ("src=", "href=", "@import", "url(http"):
        assert place not in text.replace("xlink:href=", "").replace('href="#', "")


def test_equal_facts_give_equal_pages(about):
    assert page(about) == page(about)


def test_a_database_that_knows_nothing_gives_a_page_that_says_so(about):
    empty = About("net.onnx", "x86", "", "seconds", about.rows, [], about.defaults, {}, {}, {})
    assert "Nothing was measured yet." in page(empty)


def test_a_run_that_only_failed_has_a_page(about):
    records = [record("k", 9, None, 1.0, "crashed"), record("k", 8, None, 2.0, "timed out")]
    row = TaskRow("k", "conv", "conv2d", 2, 9, None, None, None, None, 2)
    text = page(About("net.onnx", "x86", "", "seconds", [row], records, about.defaults, {}, {}, {}))
    assert "timed out" in text


def test_it_is_written_whole_or_not_at_all(about, tmp_path):
    write(tmp_path / "page.html", about)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text().endswith("</html>\n")
