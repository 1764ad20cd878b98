"""Layers with parameters, `import distrain.links as L`."""

from distrain.links.batch_normalization import BatchNormalization as BatchNormalization
from distrain.links.chain import Chain as Chain
from distrain.links.chain import ChainList as ChainList
from distrain.links.classifier import Classifier as Classifier
from distrain.links.convolution_2d import Convolution2D as Convolution2D
from distrain.links.embed_id import EmbedID as EmbedID
from distrain.links.layer_normalization import LayerNormalization as LayerNormalization
from distrain.links.linear import Linear as Linear
from distrain.links.link import Link as Link
from distrain.links.lstm import LSTM as LSTM
from distrain.links.lstm import StatelessLSTM as StatelessLSTM
from distrain.links.sequential import Sequential as Sequential
from distrain.links.summary import ModelSummary as ModelSummary
from distrain.links.summary import summarize as summarize

__all__ = [
    "LSTM",
    "BatchNormalization",
    "Chain",
    "ChainList",
    "Classifier",
    "Convolution2D",
    "EmbedID",
    "LayerNormalization",
    "Linear",
    "Link",
    "ModelSummary",
    "Sequential",
    "StatelessLSTM",
    "summarize",
]
