"""What MPIs say about memory of GPUs; the sums are in test_gpu_sum.py and tests/gpu."""

from __future__ import annotations

import pytest

from distrain.comm.gpu_aware import refusal

OPEN_MPI = "Open MPI v5.0.11, package: Open MPI user@host Distribution, ident: 5.0.11"
MPICH = "MPICH Version:      5.0.2\nMPICH Release date: Fri Sep 25 20:00:00 CDT 2026\n\0"
CRAY = "MPI VERSION    : CRAY MPICH version 8.1.29.2 (ANL base 3.4a2)\nMPI BUILD INFO : …\n"
INTEL = "Intel(R) MPI Library 2021.12 for Linux* OS\n"


@pytest.mark.parametrize(
    ("library", "is_supported", "environ", "reason"),
    [
        (OPEN_MPI, True, {}, None),
        (OPEN_MPI, False, {}, "Open MPI v5.0.11 was built without CUDA (`ompi_info` shows how)"),
        (MPICH, True, {}, None),
        (MPICH, True, {"MPIR_CVAR_ENABLE_GPU": "1"}, None),
        (MPICH, True, {"MPIR_CVAR_ENABLE_GPU": "0"}, "5.0.2 was told not to, by MPIR_CVAR_ENABLE_GPU=0"),
        (MPICH, False, {"MPIR_CVAR_ENABLE_GPU": "1"}, "5.0.2 was built without CUDA"),
        (CRAY, None, {"MPICH_GPU_SUPPORT_ENABLED": "1"}, None),
        (CRAY, True, {}, "takes memory of GPUs only with MPICH_GPU_SUPPORT_ENABLED=1"),
        (CRAY, None, {"MPICH_GPU_SUPPORT_ENABLED": "0"}, "takes memory of GPUs only with MPICH_GPU_SUPPORT_ENABLED=1"),
        (INTEL, None, {}, "does not say that it takes memory of GPUs (it has no MPIX_Query_cuda_support)"),
    ],
)
def test_what_an_mpi_says(library: str, is_supported: bool | None, environ: dict[str, str], reason: str | None) -> None:
    found = refusal(library, is_supported, environ)
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found
        assert "\n" not in found
