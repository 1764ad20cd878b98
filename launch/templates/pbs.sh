#!/bin/bash
# PBS Professional, OpenPBS: qsub pbs.sh. A training on 2 nodes with 4 ranks on each.
#PBS -S /bin/bash
#PBS -N train
#PBS -j oe
# For each node: cores, ranks, threads of a rank. For GPUs append :ngpus=4; the script chooses one by
# comm.world().intra_rank.
#PBS -l select=2:ncpus=32:mpiprocs=4:ompthreads=8
#PBS -l place=scatter
#PBS -l walltime=4:00:00
##PBS -A lab
##PBS -q workq

set -e  # what fails here ends the job

# The site's MPI and the environment with distrain and an mpi4py for that MPI. Adapt both lines.
module load openmpi
source "$HOME/venv/bin/activate"

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

cd "$PBS_O_WORKDIR"
mpiexec -n 8 python train.py --epoch 20
