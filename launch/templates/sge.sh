#!/bin/bash
# Grid Engine: qsub sge.sh. A training on 2 hosts with 4 ranks on each.
#$ -S /bin/bash
#$ -N train
#$ -cwd
#$ -j y
#$ -o train.$JOB_ID.log
# Slots, one for each core. The site's parallel environment (here: mpi) decides how they lie on hosts: `qconf -spl`
# lists them, and `qconf -sp mpi` shows one. GPUs are asked for in the site's own way, often -l gpu=4.
#$ -pe mpi 64
#$ -l h_rt=4:00:00
##$ -P lab
##$ -q long

set -e  # what fails here ends the job

# The site's MPI and the environment with distrain and an mpi4py for that MPI. Adapt both lines.
module load openmpi
source "$HOME/venv/bin/activate"

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

# 4 ranks on each host of the job.
hosts=$(awk '{ printf "%s%s:4", comma, $1; comma = "," }' "$PE_HOSTFILE")
mpiexec -host "$hosts" -n 8 python train.py --epoch 20
