"""`Convolution2D`: a layer of filters over images."""

from __future__ import annotations

from typing import Any

from distrain.autograd import Parameter, Variable
from distrain.autograd.type_check import expect_float, expect_ndim
from distrain.backend import Array
from distrain.errors import ArgumentError
from distrain.functions.connection.convolution_2d import convolution_2d
from distrain.initializers import LeCunNormal, Zero, get_initializer
from distrain.links.link import Link


class Convolution2D(Link):
    """Two-dimensional convolution (correlation, as in all such libraries).

    Args:
        in_channels: channels of the input; None: learned from the first input.
        out_channels: number of filters.
        ksize: height and width of the filters, one number or two.
        stride, pad, dilate: one number or two.
        nobias: no `b`.
        initialW: initializer of `W`, shape (out_channels, in_channels / groups, kh, kw); LeCunNormal if None.
        initial_bias: initializer of `b`, shape (out_channels,); zeros if None.
        groups: number of groups of channels that do not see each other.

    Raises:
        ArgumentError: the channels cannot be divided into the groups.
    """

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        ksize: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] = 1,
        pad: int | tuple[int, int] = 0,
        nobias: bool = False,
        initialW: Any = None,
        initial_bias: Any = None,
        *,
        dilate: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        if ksize is None:  # Chainer's short form: Convolution2D(out_channels, ksize)
            in_channels, out_channels, ksize = None, in_channels or 0, out_channels
        self.out_channels, self.ksize, self.stride, self.pad = out_channels, ksize, stride, pad
        self.dilate, self.groups = dilate, groups
        self.b: Parameter | None = None
        with self.init_scope():
            self.W = Parameter(get_initializer(initialW, LeCunNormal()))
            if not nobias:
                self.b = Parameter(get_initializer(initial_bias, Zero()), (out_channels,))
        if in_channels is not None:
            self._initialize(in_channels)

    def _initialize(self, in_channels: int) -> None:
        for what, channels in (("in_channels", in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ArgumentError(f"{what} is {channels}, which cannot be divided into {self.groups} groups")
        if min(self.ksize if isinstance(self.ksize, tuple) else (self.ksize,)) < 1:
            raise ArgumentError(f"ksize must be positive, not {self.ksize}")
        kh, kw = self.ksize if isinstance(self.ksize, tuple) else (self.ksize, self.ksize)
        self.W.initialize((self.out_channels, in_channels // self.groups, kh, kw))

    def forward(self, x: Variable | Array) -> Variable:
        """Applies the layer.

        Args:
            x: shape (N, in_channels, H, W).

        Returns:
            shape (N, out_channels, out_H, out_W).
        """
        if not self.W.is_initialized:
            expect_ndim("convolution_2d", "x", x, 4)
            expect_float("convolution_2d", "x", x)
            self._initialize(x.shape[1])
        return convolution_2d(x, self.W, self.b, self.stride, self.pad, dilate=self.dilate, groups=self.groups)
