#!/bin/bash
# Written by `distrain submit --lsf`: 1 rank on 1 node.
#BSUB -J train
#BSUB -o train-%J.log
#BSUB -n 1
#BSUB -R "span[ptile=1]"

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
