#!/bin/bash
# Written by `distrain submit --slurm`: 2 ranks on 1 node.
#SBATCH --job-name=train
#SBATCH --output=train-%j.log
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60

set -e  # what fails here ends the job
cd /home/me/work

# What every rank finds in its environment; exported variables do not reach other nodes through every MPI.
environment=(
    PYTHONUNBUFFERED=1
    PYTHONFAULTHANDLER=1
    "DISTRAIN_JOB=slurm-$SLURM_JOB_ID"
    "DISTRAIN_RESTART=${SLURM_RESTART_COUNT:-0}"
    DISTRAIN_GRACE=60
)

# The command line of every rank.
program=(env "${environment[@]}" /home/me/venv/bin/python train.py)

# Slurm tells this shell when the end is near (USR1; USR2 if you ask for it) or the job must make room (TERM).
# All ranks finish their step and save, and the training ends with code 75.
told=0
trap 'told=$((told + 1)); kill -USR1 "$training" 2> /dev/null || :' USR1 USR2 TERM

# A rank that is killed ends the others.
srun --mpi=pmi2 --kill-on-bad-exit=1 "${program[@]}" &
training=$!
while
    before=$told code=0
    wait "$training" || code=$?
    [ "$told" -gt "$before" ]  # it was the signal that ended the wait
do :; done
if [ "$code" -eq 75 ] || { [ "$told" -gt 0 ] && [ "$code" -eq 137 ]; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
