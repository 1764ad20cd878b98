"""State to files and back: Chainer's npz layout, read without pickle."""

from __future__ import annotations

from distrain.serializers.npz import DictionarySerializer as DictionarySerializer
from distrain.serializers.npz import NpzDeserializer as NpzDeserializer
from distrain.serializers.npz import load_npz as load_npz
from distrain.serializers.npz import save_npz as save_npz
from distrain.serializers.serializer import AbstractSerializer as AbstractSerializer
from distrain.serializers.serializer import Deserializer as Deserializer
from distrain.serializers.serializer import Serializable as Serializable
from distrain.serializers.serializer import Serializer as Serializer

__all__ = [
    "AbstractSerializer",
    "Deserializer",
    "DictionarySerializer",
    "NpzDeserializer",
    "Serializable",
    "Serializer",
    "load_npz",
    "save_npz",
]
