#!/bin/bash
# Written by `distrain submit --sge`: 1 rank on 1 node.
#$ -S /bin/bash
#$ -N train
#$ -cwd
#$ -j y
#$ -o train.$JOB_ID.log

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
