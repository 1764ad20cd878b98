"""First numbers of parameters.

    L.Linear(784, 100, initialW=distrain.initializers.HeNormal())

An initializer fills the array it is given. Random ones draw from NumPy's global generator, which `Parameter` seats at
a state that depends on the job's seed, so that every rank starts with the same numbers.
"""

from distrain.initializers.constant import Constant as Constant
from distrain.initializers.constant import NaN as NaN
from distrain.initializers.constant import One as One
from distrain.initializers.constant import Zero as Zero
from distrain.initializers.constant import get_initializer as get_initializer
from distrain.initializers.initializer import Initializer as Initializer
from distrain.initializers.initializer import generate_array as generate_array
from distrain.initializers.normal import GlorotNormal as GlorotNormal
from distrain.initializers.normal import HeNormal as HeNormal
from distrain.initializers.normal import LeCunNormal as LeCunNormal
from distrain.initializers.normal import Normal as Normal
from distrain.initializers.uniform import GlorotUniform as GlorotUniform
from distrain.initializers.uniform import HeUniform as HeUniform
from distrain.initializers.uniform import LeCunUniform as LeCunUniform
from distrain.initializers.uniform import Uniform as Uniform

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LeCunNormal",
    "LeCunUniform",
    "NaN",
    "Normal",
    "One",
    "Uniform",
    "Zero",
    "generate_array",
    "get_initializer",
]
