#!/bin/bash
# Written by `distrain submit --slurm`: 1 rank on 1 node.
#SBATCH --job-name=train
#SBATCH --output=train-%j.log
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1

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
