#!/bin/bash
# Flux: flux batch flux.sh. A training on 2 nodes with 4 ranks on each.
# flux: --job-name=train
# flux: --output=train-{{id}}.log
# flux: --nodes=2
# flux: --nslots=8
# flux: --cores-per-slot=8
# flux: --time-limit=4h
# For GPUs append --gpus-per-slot=1 here, and --gpus-per-task=1 below; the script chooses one by
# comm.world().intra_rank. --bank=lab and --queue=long say who pays, and where.

set -e  # what fails here ends the job

# The site's MPI and the environment with distrain and an mpi4py for that MPI. Adapt both lines.
module load openmpi
source "$HOME/venv/bin/activate"

# Open MPI may need -o pmi=pmix.
flux run --nodes=2 --ntasks=8 --cores-per-task=8 python train.py --epoch 20
