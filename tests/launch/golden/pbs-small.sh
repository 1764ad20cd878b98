#!/bin/bash
# Written by `distrain submit --pbs`: 1 rank on 1 node.
#PBS -S /bin/bash
#PBS -N train
#PBS -j oe
#PBS -l select=1:ncpus=1:mpiprocs=1:ompthreads=1
#PBS -l place=scatter

set -e  # what fails here ends the job
cd /home/me/work

# What every rank finds in its environment; exported variables do not reach other nodes through every MPI.
environment=(
    PYTHONUNBUFFERED=1
    PYTHONFAULTHANDLER=1
)

# The command line of every rank.
program=(env "${environment[@]}" /home/me/venv/bin/python train.py)

"${program[@]}"
