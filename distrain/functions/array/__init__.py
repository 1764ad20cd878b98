"""Shapes, indices, joining and splitting."""

from distrain.functions.array.broadcast import broadcast as broadcast
from distrain.functions.array.broadcast import broadcast_to as broadcast_to
from distrain.functions.array.broadcast import sum_to as sum_to
from distrain.functions.array.cast import cast as cast
from distrain.functions.array.get_item import get_item as get_item
from distrain.functions.array.get_item import select_item as select_item
from distrain.functions.array.join import concat as concat
from distrain.functions.array.join import separate as separate
from distrain.functions.array.join import split_axis as split_axis
from distrain.functions.array.join import stack as stack
from distrain.functions.array.repeat import repeat as repeat
from distrain.functions.array.repeat import tile as tile
from distrain.functions.array.shape import expand_dims as expand_dims
from distrain.functions.array.shape import flatten as flatten
from distrain.functions.array.shape import moveaxis as moveaxis
from distrain.functions.array.shape import reshape as reshape
from distrain.functions.array.shape import rollaxis as rollaxis
from distrain.functions.array.shape import squeeze as squeeze
from distrain.functions.array.shape import swapaxes as swapaxes
from distrain.functions.array.shape import transpose as transpose
from distrain.functions.array.where import where as where

__all__ = [
    "broadcast",
    "broadcast_to",
    "cast",
    "concat",
    "expand_dims",
    "flatten",
    "get_item",
    "moveaxis",
    "repeat",
    "reshape",
    "rollaxis",
    "select_item",
    "separate",
    "split_axis",
    "squeeze",
    "stack",
    "sum_to",
    "swapaxes",
    "tile",
    "transpose",
    "where",
]
