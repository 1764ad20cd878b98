#!/bin/bash
# Written by `distrain submit --slurm`: 8 ranks on 2 nodes, 4 on each.
#SBATCH --job-name=digits
#SBATCH --output=digits-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=4
#SBATCH --time=4:00:30
#SBATCH --account=ab12@gpu
#SBATCH --partition=long
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300

set -e  # what fails here ends the job
cd /home/me/work

# Batch shells do not always know `module`.
# shellcheck disable=SC1091
type module > /dev/null 2>&1 || source /etc/profile
module load gcc/13
module load openmpi/5.0

# Given with --setup.
ulimit -c 0

# What every rank finds in its environment; exported variables do not reach other nodes through every MPI.
environment=(
    PYTHONUNBUFFERED=1
    PYTHONFAULTHANDLER=1
    DATA='/scratch/my data'
    "DISTRAIN_JOB=slurm-$SLURM_JOB_ID"
    "DISTRAIN_RESTART=${SLURM_RESTART_COUNT:-0}"
    DISTRAIN_GRACE=300
)
# Threads of BLAS: one for each core of a rank, unless their number has been chosen already.
threads=(OMP_NUM_THREADS OPENBLAS_NUM_THREADS GOTO_NUM_THREADS MKL_NUM_THREADS BLIS_NUM_THREADS VECLIB_MAXIMUM_THREADS)
chosen=
for name in "${threads[@]}"; do chosen+=${!name}; done
[ -n "$chosen" ] || environment+=("${threads[@]/%/=8}")

# Each rank sees one GPU of its node, which is number 0 to it.
# shellcheck disable=SC2016
own_gpu='number=${OMPI_COMM_WORLD_LOCAL_RANK:-$MPI_LOCALRANKID}
list=${CUDA_VISIBLE_DEVICES:-0,1,2,3}
CUDA_VISIBLE_DEVICES=$(echo "$list," | cut -d , -f "$((${number:?no number on this node is known} + 1))")
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:?no GPU is left for rank $number of this node in $list}
exec "$@"
'
# The command line of every rank.
program=(sh -c "$own_gpu" sh env "${environment[@]}" /home/me/venv/bin/python train.py --epoch 20 --out 'it'"'"'s a result')

# Slurm tells this shell when the end is near (USR1; USR2 if you ask for it) or the job must make room (TERM).
# All ranks finish their step and save, and the training ends with code 75.
told=0
trap 'told=$((told + 1)); kill -USR1 "$training" 2> /dev/null || :' USR1 USR2 TERM

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

mpiexec -n 8 "${program[@]}" &
training=$!
while
    before=$told code=0
    wait "$training" || code=$?
    [ "$told" -gt "$before" ]  # it was the signal that ended the wait
do :; done
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
