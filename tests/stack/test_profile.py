import pytest

from stack import profile as profiles
from stack.roofline import Limits, measure


class Fixed:
    """A library whose operators always take the same time."""

    def __init__(self, entries, seconds):
        self.manifest, self.seconds = {"operators": entries}, seconds

    def profile(self, inputs):
        return self.seconds


def test_share_speed_and_roofline_of_each_operator(monkeypatch):
    monkeypatch.setattr(profiles, "SECONDS", 0.0)
    entries = [
        {"kernel": "conv", "rule": "conv2d", "flops": 10**9, "bytes": 1000},
        {"kernel": "odd", "rule": "fallback", "flops": 0, "bytes": 10**7},
        {"kernel": "nothing", "rule": "copy", "flops": 0, "bytes": 0},
    ]
    times = profiles.profile(Fixed(entries, [0.02, 0.005, 0.0]), {}, Limits(1e11, [(1 << 40, 1e10)]))
    conv, odd, nothing = times
    assert (conv.index, conv.kernel, conv.ms, conv.gflops, conv.roofline) == (0, "conv", 20.0, 50.0, 0.5)
    assert conv.share == pytest.approx(0.8)
    assert (odd.ms, odd.share, odd.roofline) == (5.0, pytest.approx(0.2), pytest.approx(0.2))
    assert (nothing.ms, nothing.gflops, nothing.roofline) == (0.0, 0.0, 0.0)
    assert [row.is_fallback for row in times] == [False, True, False]


def test_operators_of_a_library_say_how_much_they_do(compiled):
    conv = next(entry for entry in compiled.manifest["operators"] if "conv2d" in entry["kernel"])
    assert conv.keys() == {"kernel", "rule", "decision", "source", "flops", "bytes"}
    assert conv["flops"] >= 2 * 4 * 8 * 8 * 3 * 3 * 3
    assert conv["bytes"] >= 4 * (3 * 8 * 8 + 4 * 3 * 3 * 3 + 4 + 4 * 8 * 8)


def test_an_operator_is_held_to_the_bandwidth_of_its_own_size():
    limits = Limits(1e9, [(100, 1e6), (10_000, 1e5)])
    assert limits.seconds(flops=0, bytes=100) == 100 / 1e6
    assert limits.seconds(flops=0, bytes=101) == 101 / 1e5
    assert limits.seconds(flops=0, bytes=1e6) == 1e6 / 1e5
    assert limits.seconds(flops=1e9, bytes=100) == 1.0


def test_this_machine_has_limits():
    limits = measure(threads=1)
    assert limits.flops > 0
    assert [size for size, _ in limits.bandwidths] == sorted(size for size, _ in limits.bandwidths)
    assert all(speed > 0 for _, speed in limits.bandwidths)
