"""Data sets to train on, and datasets made of arrays, of files and of other datasets."""

from distrain.datasets.cifar import get_cifar10 as get_cifar10
from distrain.datasets.cifar import get_cifar100 as get_cifar100
from distrain.datasets.concatenated_dataset import ConcatenatedDataset as ConcatenatedDataset
from distrain.datasets.dict_dataset import DictDataset as DictDataset
from distrain.datasets.digits import get_digits as get_digits
from distrain.datasets.image_dataset import ImageDataset as ImageDataset
from distrain.datasets.image_dataset import LabeledImageDataset as LabeledImageDataset
from distrain.datasets.mnist import get_fashion_mnist as get_fashion_mnist
from distrain.datasets.mnist import get_mnist as get_mnist
from distrain.datasets.sub_dataset import SubDataset as SubDataset
from distrain.datasets.sub_dataset import get_cross_validation_datasets as get_cross_validation_datasets
from distrain.datasets.sub_dataset import get_cross_validation_datasets_random as get_cross_validation_datasets_random
from distrain.datasets.sub_dataset import split_dataset as split_dataset
from distrain.datasets.sub_dataset import split_dataset_n as split_dataset_n
from distrain.datasets.sub_dataset import split_dataset_n_random as split_dataset_n_random
from distrain.datasets.sub_dataset import split_dataset_random as split_dataset_random
from distrain.datasets.transform_dataset import TransformDataset as TransformDataset
from distrain.datasets.tuple_dataset import TupleDataset as TupleDataset

__all__ = [
    "ConcatenatedDataset",
    "DictDataset",
    "ImageDataset",
    "LabeledImageDataset",
    "SubDataset",
    "TransformDataset",
    "TupleDataset",
    "get_cifar10",
    "get_cifar100",
    "get_cross_validation_datasets",
    "get_cross_validation_datasets_random",
    "get_digits",
    "get_fashion_mnist",
    "get_mnist",
    "split_dataset",
    "split_dataset_n",
    "split_dataset_n_random",
    "split_dataset_random",
]
