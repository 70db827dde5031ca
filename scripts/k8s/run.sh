#!/usr/bin/env bash
# Runs both jobs one after the other in kubectl's namespace and prints the result. Jobs of an earlier run are removed first.
#
#   scripts/k8s/run.sh [--namespace N and other flags of kubectl]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# finish JOB: waits until it is complete, or ends with its events when it failed.
finish() {
	while :; do
		kubectl "${flags[@]}" wait --for=condition=complete --timeout=30s "job/$1" >/dev/null 2>&1 && return
		if kubectl "${flags[@]}" wait --for=condition=failed --timeout=1s "job/$1" >/dev/null 2>&1; then
			kubectl "${flags[@]}" describe "job/$1" >&2
			echo "run.sh: job $1 failed; the log of a pod: kubectl logs -l job-name=$1" >&2
			exit 1
		fi
	done
}

flags=("$@")
kubectl "${flags[@]}" delete job --ignore-not-found fid-stats fid-merge >&2
kubectl "${flags[@]}" apply -f "$here/stats.yaml" >&2
finish fid-stats
kubectl "${flags[@]}" apply -f "$here/merge.yaml" >&2
finish fid-merge
kubectl "${flags[@]}" logs job/fid-merge
