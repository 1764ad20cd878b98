"""distrain: train neural networks in Chainer's style, on one process or on many, with one unchanged script.

The floors; a file imports only from floors below its own:

    9  distrain                     the public names
    8  training, multi_node         Trainer, updaters, triggers, extensions; ChainerMN's names
       results                      what trainings have left on disk, and reports about it
    7  optimizers, optimizer_hooks  flat parameters and update rules
       iterators                    the order of samples; serial iterator
    6  links, initializers          layers with parameters
       dataset, datasets            batches, converters, sharding; digits, MNIST, CIFAR, images
    5  functions                    one family a folder
    4  autograd, comm               Variables and the backward pass; communicators and the job's world
    3  serializers, reporting       npz files; reporter and summaries
    2  backend, cuda                devices; the one door to CuPy
    1  env, files, rng, minibatch   who am I; whole files; randomness by position; whose samples are these
       black_box                    what a rank leaves for the launcher
       reproducible, clock          whether a minibatch is cut into shards; where the time of a step goes
    0  errors, config               the exception tree; the switches of a thread

`import distrain` starts neither MPI nor CUDA nor a thread, and loads what a name needs when the name is first used (and
`comm` at once where the environment says that this is one of several ranks).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from distrain import env as _env  # before NumPy is loaded, see there
from distrain import errors as errors
from distrain.config import config as config
from distrain.config import force_backprop_mode as force_backprop_mode
from distrain.config import global_config as global_config
from distrain.config import no_backprop_mode as no_backprop_mode
from distrain.config import using_config as using_config
from distrain.errors import DistrainError as DistrainError

if TYPE_CHECKING:  # what the rest of this file does, as type checkers and editors read it
    from distrain import backend as backend
    from distrain import comm as comm
    from distrain import computational_graph as computational_graph
    from distrain import cuda as cuda
    from distrain import dataset as dataset
    from distrain import datasets as datasets
    from distrain import functions as functions
    from distrain import gradient_check as gradient_check
    from distrain import initializers as initializers
    from distrain import iterators as iterators
    from distrain import links as links
    from distrain import multi_node as multi_node
    from distrain import optimizer_hooks as optimizer_hooks
    from distrain import optimizers as optimizers
    from distrain import reporting as reporting
    from distrain import results as results
    from distrain import rng as rng
    from distrain import serializers as serializers
    from distrain import training as training
    from distrain.autograd import Function as Function
    from distrain.autograd import FunctionNode as FunctionNode
    from distrain.autograd import Parameter as Parameter
    from distrain.autograd import Variable as Variable
    from distrain.autograd import as_array as as_array
    from distrain.autograd import as_variable as as_variable
    from distrain.autograd import grad as grad
    from distrain.backend import get_array_module as get_array_module
    from distrain.backend import get_device as get_device
    from distrain.initializers import Initializer as Initializer
    from distrain.links import Chain as Chain
    from distrain.links import ChainList as ChainList
    from distrain.links import Link as Link
    from distrain.links import Sequential as Sequential
    from distrain.optimizers import GradientMethod as GradientMethod
    from distrain.optimizers import Optimizer as Optimizer
    from distrain.optimizers import UpdateRule as UpdateRule
    from distrain.reporting import DictSummary as DictSummary
    from distrain.reporting import Reporter as Reporter
    from distrain.reporting import Summary as Summary
    from distrain.reporting import get_current_reporter as get_current_reporter
    from distrain.reporting import report as report
    from distrain.reporting import report_scope as report_scope
    from distrain.reproducible import set_reproducible as set_reproducible
    from distrain.rng import set_seed as set_seed
    from distrain.serializers import Deserializer as Deserializer
    from distrain.serializers import Serializer as Serializer

__version__ = "0.1.0"

__all__ = [
    "Chain",
    "ChainList",
    "Deserializer",
    "DictSummary",
    "DistrainError",
    "Function",
    "FunctionNode",
    "GradientMethod",
    "Initializer",
    "Link",
    "Optimizer",
    "Parameter",
    "Reporter",
    "Sequential",
    "Serializer",
    "Summary",
    "UpdateRule",
    "Variable",
    "as_array",
    "as_variable",
    "backend",
    "comm",
    "computational_graph",
    "config",
    "cuda",
    "dataset",
    "datasets",
    "errors",
    "force_backprop_mode",
    "functions",
    "get_array_module",
    "get_current_reporter",
    "get_device",
    "global_config",
    "grad",
    "gradient_check",
    "initializers",
    "iterators",
    "links",
    "multi_node",
    "no_backprop_mode",
    "optimizer_hooks",
    "optimizers",
    "report",
    "report_scope",
    "reporting",
    "results",
    "rng",
    "serializers",
    "set_reproducible",
    "set_seed",
    "training",
    "using_config",
]

# Where the names live that are no module of this package; `config`, an object and a module, is there from the start.
_HOMES = {
    "Chain": "links",
    "ChainList": "links",
    "Deserializer": "serializers",
    "DictSummary": "reporting",
    "Function": "autograd",
    "FunctionNode": "autograd",
    "GradientMethod": "optimizers",
    "Initializer": "initializers",
    "Link": "links",
    "Optimizer": "optimizers",
    "Parameter": "autograd",
    "Reporter": "reporting",
    "Sequential": "links",
    "Serializer": "serializers",
    "Summary": "reporting",
    "UpdateRule": "optimizers",
    "Variable": "autograd",
    "as_array": "autograd",
    "as_variable": "autograd",
    "get_array_module": "backend",
    "get_current_reporter": "reporting",
    "get_device": "backend",
    "grad": "autograd",
    "report": "reporting",
    "report_scope": "reporting",
    "set_reproducible": "reproducible",
    "set_seed": "rng",
}


if not TYPE_CHECKING:  # so that type checkers know every name, and no other

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'distrain' has no attribute {name!r}")
        if name in _HOMES:
            value = getattr(importlib.import_module(f"distrain.{_HOMES[name]}"), name)
        else:
            value = importlib.import_module(f"distrain.{name}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _is_one_of_many() -> bool:
    try:
        return bool(importlib.import_module("distrain.env").rank_info().size > 1)
    except errors.WorldError:  # `comm.world` will raise it where the user can act on it
        return True


if _is_one_of_many():  # from here on an exception ends the whole job, and all ranks draw one seed
    importlib.import_module("distrain.comm")
