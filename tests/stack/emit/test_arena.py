"""No two live buffers share bytes unless their kernel allows it, and the arena is as small as it can be where that is known."""

import itertools
import random

import pytest

from stack.emit.arena import Buffer, Overlap, apart, live_bound, place


def check(buffers: list[Buffer], overlaps: list[Overlap], peak: int) -> None:
    allowed = {frozenset((id(o.over), id(o.under))) for o in overlaps if o.allows() and o.under.last == o.over.first}
    for a, b in itertools.combinations(buffers, 2):
        assert not a.meets(b) or apart(a, b) or frozenset((id(a), id(b))) in allowed
    assert all(b.offset % b.align == 0 and b.offset >= 0 for b in buffers)
    assert peak == max(b.offset + b.bytes for b in buffers)


def test_a_chain_needs_its_largest_pair() -> None:
    chain = [Buffer(str(i), size, i, i + 1) for i, size in enumerate([640, 128, 128, 8, 640])]
    assert place(chain) == 768
    check(chain, [], 768)


def test_an_output_goes_in_place_where_the_kernel_allows_it() -> None:
    a, b = Buffer("a", 8000, 0, 1), Buffer("b", 8000, 1, 2)
    assert place([a, b], [Overlap(b, a, 0, exact=True)]) == 8000


def test_a_larger_output_begins_below_its_input() -> None:
    small, large = Buffer("small", 18432, 0, 1), Buffer("large", 36864, 1, 2)
    overlap = Overlap(large, small, 18432)
    assert place([small, large], [overlap]) == 36864
    assert small.offset - large.offset == 18432


def test_an_exact_distance_is_kept_or_not_used() -> None:
    a, b, c = Buffer("a", 100, 0, 1), Buffer("b", 40, 1, 2), Buffer("c", 300, 0, 2)
    overlaps = [Overlap(b, a, 0, exact=True)]
    peak = place([a, b, c], overlaps)
    check([a, b, c], overlaps, peak)
    assert peak == 400


def test_what_a_later_step_reads_is_not_written_over() -> None:
    a, b = Buffer("a", 100, 0, 2), Buffer("b", 100, 1, 2)
    assert place([a, b], [Overlap(b, a, 0)]) == 200


def test_no_overlap_without_permission() -> None:
    a, b = Buffer("a", 100, 0, 1), Buffer("b", 100, 1, 2)
    assert place([a, b]) == 200


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_are_placed_near_their_bound(seed: int) -> None:
    choose = random.Random(seed)
    buffers: list[Buffer] = []
    overlaps: list[Overlap] = []
    for step in range(25):
        life = choose.choice([1, 1, 1, 2, 5])
        buffers.append(Buffer(str(step), choose.randrange(1, 200) * 4, step, step + life))
        if step and choose.random() < 0.5 and buffers[-2].last == step:
            overlaps.append(Overlap(buffers[-1], buffers[-2], choose.choice([0, 16, 64]), choose.random() < 0.3))
    peak = place(buffers, overlaps)
    check(buffers, overlaps, peak)
    assert peak <= 1.2 * live_bound(buffers)


def test_placing_is_reproducible() -> None:
    def run() -> list[int]:
        buffers = [Buffer(str(i), (i * 37) % 100 + 1, i, i + 1 + i % 3) for i in range(30)]
        place(buffers)
        return [b.offset for b in buffers]

    assert run() == run()
