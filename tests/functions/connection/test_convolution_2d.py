import numpy as np
import pytest

import distrain.functions as F
from distrain import errors
from distrain.autograd import Parameter, Variable
from distrain.functions.connection import im2col
from tests.functions.cases import check_empty, check_function, draw

# size, kernel, stride, pad, dilate, groups, cover_all
CASES = [
    ((5, 6), (3, 3), 1, 1, 1, 1, False),
    ((5, 6), (3, 3), 1, 0, 1, 2, False),
    ((4, 3), (1, 1), 1, 0, 1, 1, False),
    ((4, 4), (1, 1), 2, 0, 1, 1, False),
    ((7, 6), (3, 2), (2, 1), (0, 2), (1, 2), 2, False),
    ((6, 6), (2, 3), 3, 1, 1, 4, False),
    ((6, 6), (2, 3), 3, 1, 1, 1, True),
    ((7, 7), (3, 3), 1, 2, 2, 2, False),
    ((3, 3), (3, 3), 1, 0, 1, 1, False),
    ((1, 1), (1, 1), 7, 3, 1, 1, False),
    ((5, 4), (2, 2), 2, 0, 1, 1, False),
]


def two(x):
    return (x, x) if isinstance(x, int) else x


def direct(x, W, b, stride, pad, dilate, groups, cover_all):
    (sh, sw), (ph, pw), (dh, dw) = two(stride), two(pad), two(dilate)
    n, _, h, w = x.shape
    n_out, c, kh, kw = W.shape
    extra = (sh - 1, sw - 1) if cover_all else (0, 0)
    oh = (h + 2 * ph - dh * (kh - 1) - 1 + extra[0]) // sh + 1
    ow = (w + 2 * pw - dw * (kw - 1) - 1 + extra[1]) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph + extra[0]), (pw, pw + extra[1])))
    y = np.zeros((n, n_out, oh, ow))
    for o in range(n_out):
        group = o // (n_out // groups)
        for i in range(oh):
            for j in range(ow):
                rows, columns = i * sh + np.arange(kh) * dh, j * sw + np.arange(kw) * dw
                seen = padded[:, group * c : (group + 1) * c][:, :, rows][:, :, :, columns]
                y[:, o, i, j] = (seen * W[o]).sum(axis=(1, 2, 3)) + (0 if b is None else b[o])
    return y


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilate", "groups", "cover_all"), CASES)
def test_convolution(size, kernel, stride, pad, dilate, groups, cover_all):
    def convolve(x, W, b):
        return F.convolution_2d(x, W, b, stride, pad, cover_all, dilate=dilate, groups=groups)

    x, W, b = draw((3, 4, *size), (8, 4 // groups, *kernel), (8,), low=-1, high=1)
    check_function(convolve, [x, W, b], lambda *xs: direct(*xs, stride, pad, dilate, groups, cover_all), tolerance=0.03)


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilate", "groups", "cover_all"), CASES)
def test_deconvolution(size, kernel, stride, pad, dilate, groups, cover_all):
    zeros = np.zeros((3, 4, *size)), np.zeros((8, 4 // groups, *kernel))
    count = direct(*zeros, None, stride, pad, dilate, groups, cover_all).shape[2:]

    def deconvolve(x, W, b):
        return F.deconvolution_2d(x, W, b, stride, pad, size, dilate=dilate, groups=groups)

    def transposed(x, W, b):  # the convolution as a matrix, transposed
        y = np.zeros((3, 4, *size))
        for c, i, j in np.ndindex(y.shape[1:]):
            one = np.zeros((1, 4, *size))
            one[0, c, i, j] = 1
            y[:, c, i, j] = (x * direct(one, W, None, stride, pad, dilate, groups, cover_all)).sum((1, 2, 3)) + b[c]
        return y

    x, W, b = draw((3, 8, *count), (8, 4 // groups, *kernel), (4,), low=-1, high=1)
    check_function(deconvolve, [x, W, b], transposed, tolerance=0.03)


def test_smallest_deconvolution():
    y = F.deconvolution_2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), stride=2)
    np.testing.assert_array_equal(y.array, np.ones((1, 1, 4, 4)))


def test_without_bias():
    x, W = draw((2, 2, 4, 4), (3, 2, 3, 3), low=-1, high=1)
    check_function(F.convolution_2d, [x, W], lambda x, W: direct(x, W, None, 1, 0, 1, 1, False), tolerance=0.03)


def test_blocks_of_samples_do_not_show(monkeypatch):
    x, W, b = [a.astype(np.float32) for a in draw((7, 4, 6, 6), (6, 2, 3, 3), (6,))]

    def run(stride):
        variables = Variable(x), Variable(W), Variable(b)
        y = F.convolution_2d(*variables, stride, 1, groups=2)
        y.grad = np.cos(y.array)
        y.backward()
        return [y.array, *[v.grad for v in variables]]

    for stride in (1, 2):
        whole = run(stride)
        monkeypatch.setattr(im2col, "_BLOCK", 3 * 4 * 9 * 6 * 8)  # blocks of 3, 3 and 1 samples
        for one, other in zip(run(stride), whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        monkeypatch.undo()


def test_writes_into_the_flat_gradient():
    x, W = [a.astype(np.float32) for a in draw((2, 2, 4, 4), (3, 2, 3, 3))]
    parameter, place = Parameter(W), np.full(W.shape, np.nan, np.float32)
    parameter.bind(np.empty_like(place), place)
    y = F.convolution_2d(x, parameter)
    y.grad = np.ones_like(y.array)
    y.creator._writing = True
    assert y.creator.backward((1,), (y.grad,))[0] is place
    free = Variable(W)
    F.convolution_2d(x, free).sum().backward()
    np.testing.assert_allclose(place, free.grad, rtol=1e-6)


def test_no_samples():
    check_empty(F.convolution_2d, (0, 2, 4, 4), (3, 2, 3, 3), (3,))
    check_empty(F.deconvolution_2d, (0, 2, 4, 4), (2, 3, 3, 3), (3,))


def test_two_precisions():
    x, W = draw((2, 2, 4, 4), (3, 2, 3, 3))
    x, W = Variable(x), Variable(W.astype(np.float32))
    y = F.convolution_2d(x, W)
    y.grad = np.ones_like(y.array)
    y.backward()
    assert (y.dtype, x.grad.dtype, W.grad.dtype) == (np.float64, np.float64, np.float32)


@pytest.mark.parametrize(
    ("x", "W", "b", "how", "text"),
    [
        ((1, 3, 4, 4), (2, 2, 3, 3), (2,), {}, "x.*Expect: 2 channels.*Actual: 3 channels"),
        ((1, 4, 4, 4), (2, 4, 3, 3), (2,), {"groups": 2}, "x.*Expect: 8 channels.*Actual: 4 channels"),
        ((1, 2, 4, 4), (3, 1, 3, 3), (3,), {"groups": 2}, "W.*multiple of groups=2"),
        ((1, 2, 4, 4), (2, 2, 3, 3), (3,), {}, r"b.*Expect: shape \(2,\).*Actual: shape \(3,\)"),
        ((2, 4, 4), (2, 2, 3, 3), (2,), {}, "x.*Expect: 4 axes.*Actual: 3 axes"),
        ((1, 2, 2, 4), (2, 2, 3, 3), (2,), {}, r"x.*a kernel of \(3, 3\)"),
        ((1, 2, 4, 4), (2, 2, 3, 3), (2,), {"stride": 0}, r"stride.*Actual: stride=\(0, 0\)"),
    ],
)
def test_refuses(x, W, b, how, text):
    with pytest.raises(errors.InvalidType, match="(?s)in: convolution_2d.*Argument: " + text):
        F.convolution_2d(np.zeros(x), np.zeros(W), np.zeros(b), **how)


def test_refuses_an_impossible_outsize():
    with pytest.raises(errors.InvalidType, match=r"(?s)deconvolution_2d.*outsize.*smallest: \(5, 5\).*\(7, 5\)"):
        F.deconvolution_2d(np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 3, 3)), stride=2, outsize=(7, 5))
