"""What a dataset is, and how examples become the arrays of a minibatch."""

from distrain.dataset.batch import Batch as Batch
from distrain.dataset.convert import concat_examples as concat_examples
from distrain.dataset.convert import converter as converter
from distrain.dataset.convert import to_device as to_device
from distrain.dataset.dataset_mixin import DatasetMixin as DatasetMixin
from distrain.dataset.download import cache_or_load_file as cache_or_load_file
from distrain.dataset.download import cached_download as cached_download
from distrain.dataset.download import get_dataset_directory as get_dataset_directory
from distrain.dataset.download import get_dataset_root as get_dataset_root
from distrain.dataset.download import set_dataset_root as set_dataset_root

__all__ = [
    "Batch",
    "DatasetMixin",
    "cache_or_load_file",
    "cached_download",
    "concat_examples",
    "converter",
    "get_dataset_directory",
    "get_dataset_root",
    "set_dataset_root",
    "to_device",
]
