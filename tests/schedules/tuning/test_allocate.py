"""The next batch goes where the whole model gains most."""

from math import inf

from schedules.tuning.allocate import Progress, next_task, whole


def test_tasks_without_a_measurement_come_first():
    assert next_task([Progress(weight=1, best=1.0, batches=1), Progress(weight=1, best=inf)]) == 1


def test_of_two_that_improve_alike_the_heavier_one_is_taken():
    light, heavy = (Progress(weight=calls, best=1.0, batches=2, trend=0.1) for calls in (1, 9))
    assert next_task([light, heavy]) == 1


def test_of_two_of_one_weight_the_one_that_improves_is_taken():
    flat = Progress(weight=4, best=1.0, batches=3, stale=3)
    falling = Progress(weight=4, best=1.0, batches=3, trend=0.2)
    assert next_task([flat, falling]) == 1


def test_a_light_task_that_improves_much_beats_a_heavy_one_that_is_done():
    heavy = Progress(weight=10, best=1.0, batches=6, stale=6)
    light = Progress(weight=1, best=1.0, batches=1, trend=0.5)
    assert next_task([heavy, light]) == 1


def test_what_the_model_foretells_counts():
    plain = Progress(weight=1, best=1.0, batches=4, stale=1)
    promising = Progress(weight=1, best=1.0, batches=4, stale=1, foretold=0.7)
    assert next_task([plain, promising]) == 1


def test_at_the_roofline_nothing_can_be_gained():
    task = Progress(weight=1, best=1.0, batches=1, trend=0.5, foretold=0.1, roofline=0.9999)
    assert task.saving < 2e-4
    assert next_task([task]) is None


def test_an_exhausted_space_gets_no_more():
    assert next_task([Progress(weight=1, best=1.0, trend=0.9, exhausted=True)]) is None
    assert next_task([Progress(weight=1, best=inf, exhausted=True)]) is None
    assert next_task([]) is None


def test_batches_that_save_nothing_end_the_search():
    task, batches = Progress(weight=3, best=1.0), 0
    while next_task([task]) is not None:
        task, batches = task.after(best=1.0, foretold=0.9, exhausted=False), batches + 1
    assert 3 <= batches <= 12


def test_a_saving_is_remembered_and_fades():
    task = Progress(weight=1, best=1.0).after(0.8, None, False)
    assert round(task.trend, 6) == 0.2
    assert task.stale == 0
    later = task.after(0.8, None, False)
    assert (later.trend, later.stale, later.best) == (0.1 * 0.9999999999999998, 1, 0.8) or (round(later.trend, 6), later.stale) == (0.1, 1)


def test_the_model_takes_the_time_of_all_calls():
    assert whole([Progress(weight=3, best=2.0), Progress(weight=1, best=1.0), Progress(weight=1, best=inf)]) == 7.0
