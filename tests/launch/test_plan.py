from __future__ import annotations

import pytest

from distrain.env import THREAD_VARIABLES
from distrain.errors import LaunchError
from distrain_launch.hardware import Cpu, Gpu, Hardware
from distrain_launch.plan import Place, choose, places


def cpus(cores: int, nodes: int = 1, threads: int = 1) -> tuple[Cpu, ...]:
    """Cores shared out evenly among nodes; the second threads are counted after all cores."""
    return tuple(
        sorted(
            Cpu(core * nodes // cores, core, core + cores * thread)
            for core in range(cores)
            for thread in range(threads)
        )
    )


def gpus(*nodes: int | None) -> tuple[Gpu, ...]:
    return tuple(Gpu(f"GPU-{number}", str(number), node) for number, node in enumerate(nodes))


@pytest.mark.parametrize(
    ("hardware", "has_mpi", "expected"),
    [
        (Hardware(cpus(1)), True, (1, "there is no GPU and one core")),
        (Hardware(cpus(1)), False, (1, "there is no GPU and one core")),
        (Hardware(cpus(1, threads=2)), True, (1, "there is no GPU and one core")),
        (Hardware(cpus(4)), True, (4, "one for each core; there is no GPU")),
        (Hardware(cpus(4), 2.5), True, (2, "one for each core; there is no GPU")),
        (Hardware(cpus(4)), False, (1, "mpi4py is not installed; `pip install distrain[mpich]` for more")),
        (Hardware(cpus(64)), True, (8, "8 at most share the 64 cores; there is no GPU")),
        (Hardware(cpus(64), None, gpus(0)), True, (1, "there is one GPU (0)")),
        (Hardware(cpus(64), None, gpus(0, 0, 1)), True, (3, "one for each GPU (0, 1, 2)")),
        (Hardware(cpus(2), None, gpus(0, 0, 1)), True, (3, "one for each GPU (0, 1, 2)")),
        (
            Hardware(cpus(2), None, gpus(0, 0)),
            False,
            (1, "mpi4py is not installed; `pip install distrain[mpich]` for more"),
        ),
    ],
)
def test_how_many_ranks(hardware: Hardware, has_mpi: bool, expected: tuple[int, str]) -> None:
    assert choose(hardware, has_mpi) == expected


ONE, TWO, THREE = gpus(None, None, None)


@pytest.mark.parametrize(
    ("hardware", "count", "all_gpus", "expected"),
    [
        # one node: nobody is bound, the threads are shared out
        (Hardware(cpus(4)), 1, False, [Place(None, (), 4)]),
        (Hardware(cpus(4)), 2, False, [Place(None, (), 2)] * 2),
        (Hardware(cpus(4)), 3, False, [Place(None, (), 1)] * 3),
        (Hardware(cpus(2)), 5, False, [Place(None, (), 1)] * 5),
        (Hardware(cpus(4, threads=2)), 2, False, [Place(None, (), 2)] * 2),
        (Hardware(cpus(8), 4.0), 2, False, [Place(None, (), 2)] * 2),
        # GPUs: one a rank, in their order, unless there is one rank or the script chooses
        (Hardware(cpus(4), None, (ONE, TWO)), 2, False, [Place(ONE, (), 2), Place(TWO, (), 2)]),
        (Hardware(cpus(4), None, (ONE, TWO, THREE)), 2, False, [Place(ONE, (), 2), Place(TWO, (), 2)]),
        (Hardware(cpus(4), None, (ONE, TWO)), 1, False, [Place(None, (), 4)]),
        (Hardware(cpus(4), None, (ONE, TWO)), 4, True, [Place(None, (), 1)] * 4),
        # several nodes: contiguous parts of whole cores
        (Hardware(cpus(4, 2)), 2, False, [Place(None, (0, 1), 2), Place(None, (2, 3), 2)]),
        (Hardware(cpus(4, 2, 2)), 2, False, [Place(None, (0, 1, 4, 5), 2), Place(None, (2, 3, 6, 7), 2)]),
        (
            Hardware(cpus(8, 2)),
            3,
            False,
            [Place(None, (0, 1), 2), Place(None, (2, 3, 4), 3), Place(None, (5, 6, 7), 3)],
        ),
        (Hardware(cpus(4, 2)), 1, False, [Place(None, (), 4)]),
        (Hardware(cpus(4, 2)), 5, False, [Place(None, (), 1)] * 5),
        (Hardware(cpus(4, 2), 2.0), 2, False, [Place(None, (), 1)] * 2),
        # several nodes and GPUs: next to the GPU, if all say where they are
        (
            Hardware(cpus(8, 2), None, gpus(1, 0, 1)),
            3,
            False,
            [
                Place(Gpu("GPU-0", "0", 1), (4, 5), 2),
                Place(Gpu("GPU-1", "1", 0), (0, 1, 2, 3), 4),
                Place(Gpu("GPU-2", "2", 1), (6, 7), 2),
            ],
        ),
        (
            Hardware(cpus(4, 2), None, gpus(1, None)),
            2,
            False,
            [Place(Gpu("GPU-0", "0", 1), (0, 1), 2), Place(Gpu("GPU-1", "1", None), (2, 3), 2)],
        ),
        (
            Hardware(cpus(4, 2), None, gpus(1, 1, 1)),
            3,
            False,
            [Place(gpu, (), 1) for gpu in gpus(1, 1, 1)],
        ),
    ],
)
def test_places(hardware: Hardware, count: int, all_gpus: bool, expected: list[Place]) -> None:
    assert places(hardware, count, all_gpus) == expected


def test_two_ranks_on_one_gpu_are_refused() -> None:
    with pytest.raises(LaunchError, match=r"3 ranks, but 2 GPUs \(0, 1\)\. Take -n 2; .*CUDA_VISIBLE_DEVICES.*--all-"):
        places(Hardware(cpus(4), None, gpus(0, 0)), 3)


@pytest.mark.parametrize(
    ("place", "environ", "expected"),
    [
        (Place(None, (), 3), {}, dict.fromkeys(THREAD_VARIABLES, "3")),
        (Place(None, (), 3), {"MKL_NUM_THREADS": "2"}, {}),
        (Place(None, (), 3), {"OMP_NUM_THREADS": ""}, dict.fromkeys(THREAD_VARIABLES, "3")),
        (Place(ONE, (), 3), {"MKL_NUM_THREADS": "2"}, {"CUDA_VISIBLE_DEVICES": "GPU-0"}),
    ],
)
def test_variables_of_a_rank(place: Place, environ: dict[str, str], expected: dict[str, str]) -> None:
    assert place.variables(environ) == expected
