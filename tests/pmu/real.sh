#!/bin/sh
# Counts the programs of known count with a real arm64 counter: `real.sh COUNTERFOIL`. Needs a C compiler for this machine.
#
# Each is counted twenty times. A count may differ from the stated one by LEEWAY instructions, since real processors are
# not documented to be exact across interrupts; what differs is shown even when it is within.
set -eu
counterfoil=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
LEEWAY=16
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for source in "$here"/programs/*.S; do
	cc -nostdlib -static -o "$work/$(basename "$source" .S)" "$source"
done

# count PROGRAM OPTIONS...: twenty counts of one program, each held against what its source states
count() {
	program=$1
	shift
	expected=$(sed -n '1s/^\/\/ Expects: \([0-9]*\) instructions$/\1/p' "$here/programs/$program.S")
	run=0
	while [ $run -lt 20 ]; do
		run=$((run + 1))
		"$counterfoil" count --backend perf --json "$@" >"$work/report.json"
		counted=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["metrics"]["instructions"])' <"$work/report.json")
		off=$((counted - expected))
		[ $off = 0 ] || echo "$program: $counted, off by $off"
		if [ $off -gt $LEEWAY ] || [ $off -lt -$LEEWAY ]; then
			echo "$program: counted $counted, expected $expected" >&2
			exit 1
		fi
	done
	echo "$program: 20 of 20 within $LEEWAY of $expected"
}

count loop -- "$work/loop"
count fork -- "$work/fork"
count exec -- "$work/exec" "$work/loop"
count threads -- "$work/threads"
count kernel -- "$work/kernel"
count regions --regions -- "$work/regions"
count late --regions -- "$work/late"
