import numpy as np

from relay_passes.rewrite import SHARED, array, blank, constant


def test_an_array_from_blank_is_not_copied() -> None:
    values = blank((SHARED, 2), "float32")
    values[:] = 3
    held = array(constant(values))
    assert held is not None
    assert np.shares_memory(held, values)
    reshaped = array(constant(held.reshape(2, -1)))
    assert reshaped is not None
    assert np.shares_memory(reshaped, values)
    assert reshaped.shape == (2, SHARED)


def test_small_and_strided_arrays_are_copied() -> None:
    small, large = blank((8,), "int64"), blank((2, SHARED), "float32")
    small[:], large[:] = 1, [[2], [3]]
    for values in (small, large.T):
        held = array(constant(values))
        assert held is not None
        assert not np.shares_memory(held, values)
        np.testing.assert_array_equal(held, values)
