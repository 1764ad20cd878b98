#!/bin/bash
# Written by `distrain submit --pbs`: 8 ranks on 2 nodes, 4 on each.
#PBS -S /bin/bash
#PBS -N digits
#PBS -j oe
#PBS -l select=2:ncpus=32:mpiprocs=4:ompthreads=8:ngpus=4
#PBS -l place=scatter
#PBS -l walltime=4:00:30
#PBS -A ab12@gpu
#PBS -q long

set -e  # what fails here ends the job
cd /home/me/work

# Batch shells do not always know `module`.
# shellcheck disable=SC1091
type module > /dev/null 2>&1 || source /etc/profile
module load gcc/13
module load openmpi/5.0

# Given with --setup.
ulimit -c 0

# What every rank finds in its environment; exported variables do not reach other nodes through every MPI.
environment=(
    PYTHONUNBUFFERED=1
    PYTHONFAULTHANDLER=1
    DATA='/scratch/my data'
)
# Threads of BLAS: one for each core of a rank, unless their number has been chosen already.
threads=(OMP_NUM_THREADS OPENBLAS_NUM_THREADS GOTO_NUM_THREADS MKL_NUM_THREADS BLIS_NUM_THREADS VECLIB_MAXIMUM_THREADS)
chosen=
for name in "${threads[@]}"; do chosen+=${!name}; done
[ -n "$chosen" ] || environment+=("${threads[@]/%/=8}")

# Each rank sees one GPU of its node, which is number 0 to it.
# shellcheck disable=SC2016
own_gpu='number=${OMPI_COMM_WORLD_LOCAL_RANK:-$MPI_LOCALRANKID}
list=${CUDA_VISIBLE_DEVICES:-0,1,2,3}
CUDA_VISIBLE_DEVICES=$(echo "$list," | cut -d , -f "$((${number:?no number on this node is known} + 1))")
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:?no GPU is left for rank $number of this node in $list}
exec "$@"
'
# The command line of every rank.
program=(sh -c "$own_gpu" sh env "${environment[@]}" /home/me/venv/bin/python train.py --epoch 20 --out 'it'"'"'s a result')

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

mpiexec -n 8 "${program[@]}"
