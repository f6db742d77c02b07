#!/bin/sh
# Runs inside the emulated machine: every case of tests/pmu_vm.rs that this kind of machine can show, in one boot.
#   cases.sh full|bare
# Each case is framed by "@@case NAME" and "@@end EXIT-CODE". COUNT is the counting command,
# COUNT_REGIONS the one that counts regions; a command to count is put behind them.
cd /pmu || exit 1
# A shell's count depends on the number of digits of its process id: none of the repeats may cross from 99 to 100.
echo 2000 >/proc/sys/kernel/ns_last_pid || exit 1
case_() { name=$1; shift; echo "@@case $name"; "$@"; echo "@@end $?"; }

case_ loop $COUNT /pmu/loop
[ "$1" = full ] || exit 0

case_ fork $COUNT /pmu/fork
case_ exec $COUNT /pmu/exec /pmu/loop
case_ threads $COUNT /pmu/threads
case_ kernel $COUNT /pmu/kernel
case_ regions $COUNT_REGIONS /pmu/regions
case_ late $COUNT_REGIONS /pmu/late
case_ no-region $COUNT_REGIONS /pmu/loop
for i in 1 2 3 4 5 6 7 8 9 10; do
	case_ repeat-threads $COUNT /pmu/threads
	case_ repeat-regions $COUNT_REGIONS /pmu/regions
	case_ repeat-marked $COUNT_REGIONS /pmu/marked
	case_ repeat-shell $COUNT /bin/sh -c 'ls / | sort | wc -l'
done
for program in /pmu/suite/*; do
	case_ "suite-${program##*/}" $COUNT "$program"
done
case_ groups ./perf_counters /pmu/fork
case_ hog ./hog $COUNT /pmu/loop

# an ordinary user under Debian's own level of perf_event_paranoid
echo 'user:x:1000:1000::/tmp:/bin/sh' >>/etc/passwd
echo 3 >/proc/sys/kernel/perf_event_paranoid
case_ paranoid start-stop-daemon -S -c 1000:1000 -n none -a ${COUNT%% *} -- ${COUNT#* } /pmu/loop
echo 2 >/proc/sys/kernel/perf_event_paranoid
case_ user start-stop-daemon -S -c 1000:1000 -n none -a ${COUNT%% *} -- ${COUNT#* } /pmu/loop
