#!/bin/bash
# Written by `distrain submit --slurm`: 8 ranks on 2 nodes, 4 on each.
#SBATCH --job-name=digits
#SBATCH --output=digits-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=4:00:30
#SBATCH --account=ab12@gpu
#SBATCH --partition=long

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

# The command line of every rank.
program=(env "${environment[@]}" apptainer exec --nv 'train it.sif' python3 train.py --epoch 20 --out 'it'"'"'s a result')

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

mpiexec -n 8 "${program[@]}"
