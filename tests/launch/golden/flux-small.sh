#!/bin/bash
# Written by `distrain submit --flux`: 1 rank on 1 node.
# flux: --job-name=train
# flux: --output=train-{{id}}.log
# flux: --nodes=1
# flux: --nslots=1
# flux: --cores-per-slot=1

set -e  # what fails here ends the job
cd /home/me/work

# What every rank finds in its environment; exported variables do not reach other nodes through every MPI.
environment=(
    PYTHONUNBUFFERED=1
    PYTHONFAULTHANDLER=1
)

# The command line of every rank.
program=(env "${environment[@]}" /home/me/venv/bin/python train.py)

flux run --nodes=1 --ntasks=1 --cores-per-task=1 "${program[@]}"
