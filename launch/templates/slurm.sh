#!/bin/bash
# Slurm: sbatch slurm.sh. A training on 2 nodes with 4 ranks on each.
#SBATCH --job-name=train
#SBATCH --output=train-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8       # cores of a rank
#SBATCH --time=4:00:00          # hours:minutes:seconds
##SBATCH --gpus-per-node=4      # with one # less: GPUs; the script chooses one by comm.world().intra_rank
##SBATCH --account=lab
##SBATCH --partition=long

set -e  # what fails here ends the job

# The site's MPI and the environment with distrain and an mpi4py for that MPI. Adapt both lines.
module load openmpi
source "$HOME/venv/bin/activate"

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

# Or without mpiexec: srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=8 python train.py --epoch 20
# (`srun --mpi=list` names the kinds: pmix for Open MPI, pmi2 for MPICH).
mpiexec -n 8 python train.py --epoch 20
