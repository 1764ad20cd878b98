import numpy as np
import pytest

from distrain import backend
from distrain.dataset import Batch, concat_examples, converter, to_device
from distrain.errors import ArgumentError, DatasetError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def assert_equal(actual, expected, dtype):
    assert type(actual) is np.ndarray
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, expected)


class TestKinds:
    def test_arrays(self):
        assert_equal(concat_examples([X[0], X[1]]), X, np.float32)

    def test_tuples(self):
        x, t = concat_examples([(X[0], np.int32(4)), (X[1], np.int32(5))])
        assert_equal(x, X, np.float32)
        assert_equal(t, [4, 5], np.int32)

    def test_dicts(self):
        arrays = concat_examples([{"x": X[0], "t": 4}, {"t": 5, "x": X[1]}])
        assert list(arrays) == ["x", "t"]
        assert_equal(arrays["x"], X, np.float32)
        assert_equal(arrays["t"], [4, 5], np.int64)

    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            ([1, 2], np.int64),
            ([1.5, 2], np.float64),
            ([True, False], np.bool_),
            ([[1, 2], [3, 4]], np.int64),
            (["a", "bcd"], "<U3"),
            ([np.str_("a"), np.str_("bcd")], "<U3"),
            ([np.float16(1), np.float16(2)], np.float16),
        ],
    )
    def test_values(self, values, dtype):
        assert_equal(concat_examples(values), values, dtype)

    def test_zero_dimensional_arrays(self):
        assert_equal(concat_examples([np.array(1, np.int8), np.array(2, np.int8)]), [1, 2], np.int8)

    def test_an_empty_axis(self):
        assert concat_examples([np.zeros((0, 3)), np.zeros((0, 3))]).shape == (2, 0, 3)

    def test_empty_tuples(self):
        assert concat_examples([(), ()]) == ()

    def test_result_is_a_copy(self):
        examples = [X[0], X[1]]
        concat_examples(examples)[:] = -1
        assert X.min() == 0


class TestBatch:
    @pytest.mark.parametrize("columns", [(X, X[:, 0]), {"x": X}, X])
    def test_columns_are_handed_over_uncopied(self, columns):
        assert concat_examples(Batch(columns=columns)) is columns
        padded = concat_examples(Batch(columns=columns), padding=0)
        assert padded is columns

    def test_columns_mean_what_the_examples_do(self):
        batch = Batch(columns=(X, np.array([1, 2], np.int32)))
        x, t = concat_examples(list(batch))
        assert_equal(x, batch.columns[0], np.float32)
        assert_equal(t, batch.columns[1], np.int32)


class TestDevice:
    @pytest.mark.parametrize("device", [None, -1, "@numpy", backend.CPU])
    def test_cpu(self, device):
        assert_equal(concat_examples([X[0], X[1]], device), X, np.float32)
        x, t = concat_examples(Batch(columns=(X, X[:, 0])), device)
        assert_equal(x, X, np.float32)
        assert_equal(t, X[:, 0], np.float32)

    def test_to_device(self):
        assert to_device(None, X) is X
        assert_equal(to_device(-1, X), X, np.float32)


class TestPadding:
    EXAMPLES = ((np.array([1, 2], np.int32), np.ones((1, 2))), (np.array([3], np.int32), np.ones((2, 1))))

    def test_one_number(self):
        a, b = concat_examples(list(self.EXAMPLES), padding=-1)
        assert_equal(a, [[1, 2], [3, -1]], np.int32)
        assert_equal(b, [[[1, 1], [-1, -1]], [[1, -1], [1, -1]]], np.float64)

    def test_tuple(self):
        a, b = concat_examples(list(self.EXAMPLES), padding=(-1, 0))
        assert a[1, 1] == -1
        assert b[0, 1, 0] == 0

    def test_dict_with_an_element_that_needs_none(self):
        examples = [{"a": a, "i": i} for i, (a, _) in enumerate(self.EXAMPLES)]
        arrays = concat_examples(examples, padding={"a": 9, "i": None})
        assert_equal(arrays["a"], [[1, 2], [3, 9]], np.int32)
        assert_equal(arrays["i"], [0, 1], np.int64)

    def test_lists(self):
        assert_equal(concat_examples([[1, 2], [3]], padding=0), [[1, 2], [3, 0]], np.int64)

    @pytest.mark.parametrize("padding", [(1,), (1, 2, 3)])
    def test_of_wrong_length(self, padding):
        with pytest.raises(ArgumentError, match="padding is given for elements"):
            concat_examples(list(self.EXAMPLES), padding=padding)

    def test_cannot_mend_another_number_of_axes(self):
        with pytest.raises(DatasetError, match=r"shape \(1, 3\).*Reshape"):
            concat_examples([X[0], X[:1]], padding=0)


class TestErrors:
    @pytest.mark.parametrize("batch", [[], Batch(), Batch([]), Batch(columns=(X[:0], X[:0]))])
    def test_empty(self, batch):
        with pytest.raises(DatasetError, match="the batch is empty"):
            concat_examples(batch)

    def test_shapes(self):
        batch = Batch([(X[0], 1), (X[0], 1), (X[0, :2], 1)], indices=np.array([7, 1842, 12]))
        with pytest.raises(DatasetError) as info:
            concat_examples(batch)
        for word in ("element 0", "example 2", "sample 12 ", "(2,)", "(3,)", "sample 7 ", "padding="):
            assert word in str(info.value)

    def test_dtypes(self):
        with pytest.raises(DatasetError, match=r"element 'x' of example 1 .* float64, .* float32.*astype"):
            concat_examples([{"x": X[0]}, {"x": X[0].astype(np.float64)}])

    def test_scalar_dtypes(self):
        with pytest.raises(DatasetError, match="example 1 of the batch has dtype int64"):
            concat_examples([np.int32(1), np.int64(1)])

    def test_array_and_number(self):
        with pytest.raises(DatasetError, match="example 1 of the batch is a float"):
            concat_examples([X[0], 1.0])

    @pytest.mark.parametrize("last", [X[0], [X[0]], {"x": X[0]}])
    def test_structures(self, last):
        with pytest.raises(DatasetError, match="example 2 of the batch is a .*one structure"):
            concat_examples([(X[0],), (X[0],), last])

    def test_tuple_lengths(self):
        with pytest.raises(DatasetError, match="example 1 of .* 3 elements, but example 0 of .* has 2"):
            concat_examples([(1, 2), (1, 2, 3)])

    def test_keys(self):
        with pytest.raises(DatasetError, match=r"keys \['y'\], .*\['x'\]"):
            concat_examples([{"x": 1}, {"y": 1}])

    def test_lists_of_different_lengths(self):
        with pytest.raises(DatasetError, match=r"example 1 .* shape \(3,\), .* \(2,\).*padding"):
            concat_examples([[1, 2], [1, 2, 3]])

    @pytest.mark.parametrize(("values", "first"), [([None, None], 0), ([1, None], 1)])
    def test_objects(self, values, first):
        with pytest.raises(DatasetError, match=f"example {first} .*NoneType"):
            concat_examples(values)


def test_converter_is_the_function():
    @converter()
    def convert(batch, device):
        return concat_examples(batch, device)

    assert_equal(convert([X[0], X[1]], -1), X, np.float32)
