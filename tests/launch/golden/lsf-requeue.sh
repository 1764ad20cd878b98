#!/bin/bash
# Written by `distrain submit --lsf`: 8 ranks on 2 nodes, 4 on each.
#BSUB -J digits
#BSUB -o digits-%J.log
#BSUB -n 8
#BSUB -R "span[ptile=4]"
#BSUB -R "affinity[core(8)]"
#BSUB -gpu "num=4:mode=shared:j_exclusive=yes"
#BSUB -W 4:01
#BSUB -P ab12@gpu
#BSUB -q long
#BSUB -r
#BSUB -Q "75"
#BSUB -wa USR1 -wt 5

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
    "DISTRAIN_JOB=lsf-$LSB_JOBID"
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

# LSF sends USR1 when the end is near, INT and TERM when somebody ends the job.
# All ranks finish their step and save, and the training ends with code 75.
told=0 again=0
trap 'told=$((told + 1)) again=1; kill -USR1 "$training" 2> /dev/null || :' USR1 USR2
trap 'told=$((told + 1)); kill -USR1 "$training" 2> /dev/null || :' INT TERM

# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none

mpiexec -n 8 "${program[@]}" &
training=$!
while
    before=$told code=0
    wait "$training" || code=$?
    [ "$told" -gt "$before" ]  # it was the signal that ended the wait
do :; done
# Code 75 puts the job back into the queue (-Q), unless somebody has ended it.
if [ "$code" -eq 75 ] && [ "$told" -gt 0 ] && [ "$again" -eq 0 ]; then
    code=143
fi
exit "$code"
