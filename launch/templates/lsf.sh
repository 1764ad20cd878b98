#!/bin/bash
# LSF: bsub < lsf.sh. A training on 2 nodes with 4 ranks on each.
#BSUB -J train
#BSUB -o train-%J.log
#BSUB -n 8
#BSUB -R "span[ptile=4]"
#BSUB -R "affinity[core(8)]"
#BSUB -W 4:00
# With one # less: GPUs of a node; the script chooses one by comm.world().intra_rank. Then project and queue.
##BSUB -gpu "num=4:mode=shared:j_exclusive=yes"
##BSUB -P lab
##BSUB -q long

set -e  # what fails here ends the job

# The site's MPI and the environment with distrain and an mpi4py for that MPI. Adapt both lines.
module load openmpi
source "$HOME/venv/bin/activate"

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

mpiexec -n 8 python train.py --epoch 20
