#!/usr/bin/env bash
# The statistics of a set that lies in shards, on several machines that share a folder, without any engine.
#
#   shards.sh share LIST OUT [FLAGS]   this task's share: fidlab stats FLAGS of every shard that is its, one file each in OUT
#   shards.sh join LIST OUT F.npz      the statistics of all of them, once every file is there
#
# LIST has the path of a shard on each line: whatever fidlab stats takes. Task i of n takes lines i, i+n, i+2n, ...; i is SHARD_INDEX,
# JOB_COMPLETION_INDEX (Kubernetes) or SLURM_ARRAY_TASK_ID, from 0, and n is SHARD_TASKS. A task that is run again makes what is missing:
# fidlab leaves no file under its final name before it is whole. FIDLAB names the program (default: fidlab).
set -euo pipefail

fidlab=${FIDLAB:-fidlab}

fail() { echo "shards.sh: $*" >&2; exit 2; }

# is_number VALUE NAME
is_number() { [[ $1 =~ ^[0-9]+$ ]] || fail "$2 is '$1'; want a whole number"; }

part() { printf '%s/part-%06d.npz' "$out" "$1"; }

# read_list checks the list and fills the array shards. OUT belongs to one list: another one would give parts of other shards.
read_list() {
	[ -r "$list" ] || fail "$list: no such list of shards"
	mapfile -t shards < <(sed -e 's/\r$//' -e '/^[[:space:]]*$/d' -e '/^#/d' "$list")
	[ ${#shards[@]} -gt 0 ] || fail "$list: names no shard"
	local twice
	twice=$(printf '%s\n' "${shards[@]}" | sort | uniq -d | head -1)
	[ -z "$twice" ] || fail "$list: $twice is listed twice; its images would count twice"
	mkdir -p "$out"
	if [ ! -e "$out/shards.txt" ]; then
		printf '%s\n' "${shards[@]}" > "$out/shards.$$.$HOSTNAME.tmp"
		mv -n "$out/shards.$$.$HOSTNAME.tmp" "$out/shards.txt"
		rm -f "$out/shards.$$.$HOSTNAME.tmp"
	fi
	printf '%s\n' "${shards[@]}" | cmp -s - "$out/shards.txt" || fail "$out has parts of another list ($out/shards.txt); give an empty folder"
}

share() {
	local index=${SHARD_INDEX:-${JOB_COMPLETION_INDEX:-${SLURM_ARRAY_TASK_ID:-}}} tasks=${SHARD_TASKS:-}
	is_number "$index" "SHARD_INDEX, JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID"
	is_number "$tasks" SHARD_TASKS
	[ "$index" -lt "$tasks" ] || fail "task $index of $tasks; tasks are counted from 0"
	read_list
	local i file
	for ((i = index; i < ${#shards[@]}; i += tasks)); do
		file=$(part "$i")
		[ -e "$file" ] || "$fidlab" stats "$@" -o "$file" -- "${shards[i]}"
	done
}

# join merges sixteen files at a time, so that memory does not grow with the number of shards.
join() {
	local to=$1 files=() i
	read_list
	for i in "${!shards[@]}"; do
		[ -e "$(part "$i")" ] || fail "$(part "$i"), of ${shards[i]}, is not there; run its task again"
		files+=("$(part "$i")")
	done
	work=$(mktemp -d "$out/join.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	local round=0 next
	while [ ${#files[@]} -gt 1 ]; do
		next=()
		for ((i = 0; i < ${#files[@]}; i += 16)); do
			local group=("${files[@]:i:16}")
			if [ ${#group[@]} -eq 1 ]; then
				next+=("${group[0]}")
				continue
			fi
			"$fidlab" merge "${group[@]}" -o "$work/$round-$i.npz" >/dev/null
			next+=("$work/$round-$i.npz")
		done
		files=("${next[@]}")
		round=$((round + 1))
	done
	cp "${files[0]}" "$to.$$.tmp"
	mv "$to.$$.tmp" "$to"
	echo "$to"
}

[ $# -ge 3 ] || fail "usage: shards.sh share LIST OUT [FLAGS], or shards.sh join LIST OUT F.npz"
verb=$1 list=$2 out=$3
shift 3
case $verb in
share) share "$@" ;;
join)
	[ $# -eq 1 ] || fail "join takes one file to write"
	join "$1"
	;;
*) fail "'$verb': want share or join" ;;
esac
