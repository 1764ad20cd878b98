"""What both kinds of two-dimensional pooling check."""

from __future__ import annotations

from distrain.autograd import Primitive, type_check
from distrain.backend import Array
from distrain.functions.connection.im2col import Pair, Windows


class Pooling2D(Primitive):
    """A function of the windows of an image.

    Attributes:
        name: for messages.
        windows: kernel, stride and padding.
        cover_all: add a window over the edge where pixels would be left out.
    """

    name = ""

    def __init__(self, windows: Windows, cover_all: bool) -> None:
        self.windows, self.cover_all = windows, cover_all

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        (x,) = in_types
        windows, name = self.windows, self.name
        type_check.expect_float(name, "x", x)
        type_check.expect_ndim(name, "x", x, 4)
        if min(windows.kernel) < 1 or min(windows.stride) < 1 or min(windows.pad) < 0:
            expected = "ksize and stride of at least 1, pad of at least 0"
            actual = f"ksize={windows.kernel}, stride={windows.stride}, pad={windows.pad}"
            raise type_check.refuse(name, "ksize", expected, actual)
        if windows.pad[0] >= windows.kernel[0] or windows.pad[1] >= windows.kernel[1]:
            actual = f"pad={windows.pad}, ksize={windows.kernel}"
            raise type_check.refuse(name, "pad", "less than ksize, so that every window meets the image", actual)
        if min(self.count(x)) < 1:
            expected = f"images that hold a window of {windows.kernel} (pad={windows.pad})"
            raise type_check.refuse(name, "x", expected, type_check.describe(x))

    def count(self, x: Array) -> Pair:
        """Rows and columns of windows on x."""
        return self.windows.count(x.shape[2:], self.cover_all)
