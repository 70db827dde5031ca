#!/usr/bin/env bash
# FID of a generated set in shards, as a Slurm array and a job that waits for it. Prints the numbers of both jobs.
#
#   TASKS=16 scripts/slurm/submit.sh REF.npz shards.txt /shared/out [flags of fidlab stats]
#
# REF.npz are the reference's statistics (or any set that fidlab fid takes). All paths must be seen by every node. Options of the
# cluster, such as the partition, go into SBATCH (SBATCH="-p long -A project") or into the two .sbatch files.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: TASKS=16 submit.sh REF.npz shards.txt OUT [flags of fidlab stats]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
export REF=$1 LIST=$2 OUT=$3 SHARD_TASKS=${TASKS:-8}
export SHARDS_SH=${SHARDS_SH:-$(dirname "$here")/shards.sh} FIDLAB=${FIDLAB:-fidlab}
shift 3
mkdir -p "$OUT"
read -ra cluster <<< "${SBATCH:-}"
# Flags go as arguments, which keep their spaces; variables by --export=ALL.
array=$(sbatch --parsable --export=ALL "${cluster[@]}" --array="0-$((SHARD_TASKS - 1))" -o "$OUT/stats-%a.log" "$here/stats.sbatch" "$@")
array=${array%%;*} # a federation appends the cluster's name
merge=$(sbatch --parsable --export=ALL "${cluster[@]}" --dependency="afterok:$array" -o "$OUT/fid.log" "$here/merge.sbatch")
echo "$array ${merge%%;*}"
