"""What a user finds: the top level, and nothing that starts by itself."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import distrain


def packages() -> list[str]:
    found = ["distrain"]
    found += [m.name for m in pkgutil.walk_packages(distrain.__path__, "distrain.") if m.ispkg]
    return found


@pytest.mark.parametrize("name", packages())
def test_all_is_sorted_and_complete(name: str) -> None:
    module = sys.modules[name]
    listed = getattr(module, "__all__", [])
    missing = [n for n in listed if not hasattr(module, n)]
    assert not missing
    assert len(set(listed)) == len(listed)
    public = {
        n
        for n, value in vars(module).items()
        if not n.startswith("_") and not isinstance(value, ModuleType) and n not in ("annotations", "TYPE_CHECKING")
    }
    assert public <= set(listed), f"{name} leaks {public - set(listed)}"


def test_the_top_level_loads_what_it_names_and_nothing_else() -> None:
    """Each name, asked for in a fresh process, is the one that type checkers see; others are errors."""
    named = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(Path(distrain.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distrain")
        for alias in node.names
        if not (alias.asname or "").startswith("_")
    }
    assert set(named) == set(distrain.__all__)
    code = (
        "import distrain, importlib, sys\n"
        f"for name, place in {named!r}.items():\n"
        "    value = getattr(distrain, name)\n"
        "    home, _, attribute = place.rpartition('.')\n"
        "    if home == 'distrain': assert value is sys.modules[place], name\n"
        "    else: assert value is getattr(importlib.import_module(home), attribute), name\n"
        "assert set(dir(distrain)) >= set(distrain.__all__)\n"
        "try: distrain.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_names_a_chainer_script_uses() -> None:
    for path in (
        "Chain ChainList Link Parameter Sequential Variable Function FunctionNode Reporter report grad config "
        "global_config using_config no_backprop_mode force_backprop_mode cuda.get_device cuda.get_device_from_id "
        "cuda.to_cpu cuda.to_gpu cuda.get_array_module backend.get_array_module get_device "
        "dataset.concat_examples dataset.DatasetMixin dataset.set_dataset_root datasets.get_mnist "
        "datasets.get_fashion_mnist datasets.get_cifar10 datasets.get_cifar100 datasets.TupleDataset "
        "datasets.split_dataset_random datasets.LabeledImageDataset iterators.SerialIterator "
        "optimizers.Adam optimizers.SGD optimizers.MomentumSGD optimizers.AdaGrad optimizers.RMSprop "
        "optimizer_hooks.WeightDecay optimizer_hooks.GradientClipping serializers.load_npz serializers.save_npz "
        "training.Trainer training.StandardUpdater training.ParallelUpdater training.make_extension "
        "training.Extension training.get_trigger training.extensions.Evaluator training.extensions.LogReport "
        "training.extensions.PrintReport training.extensions.ProgressBar training.extensions.snapshot "
        "training.extensions.snapshot_object training.extensions.dump_graph training.extensions.observe_lr "
        "training.extensions.observe_value training.updaters.StandardUpdater "
        "training.updaters.MultiprocessParallelUpdater training.triggers.IntervalTrigger "
        "computational_graph.build_computational_graph gradient_check.check_backward initializers.HeNormal "
        "multi_node.create_communicator multi_node.scatter_dataset"
    ).split():
        value: object = distrain
        for part in path.split("."):
            value = getattr(value, part)


def test_import_starts_nothing() -> None:
    code = (
        "import sys, threading, distrain;"
        "heavy = {'mpi4py', 'cupy', 'rich', 'PIL', 'threadpoolctl', 'filelock', 'platformdirs', 'ssl', 'asyncio'};"
        "print(sorted(heavy & set(sys.modules)), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[0] == "[] 1"
