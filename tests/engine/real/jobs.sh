# Job control: every pipeline is a process group of its own.
set -m
sleep 100 | cat &
first=$!
(kill -STOP $BASHPID; exit 3) &
until jobs | grep -q Stopped; do sleep 0.01; done
jobs | sed 's/^\[\([0-9]\)\].*\(Running\|Stopped\).*/\1 \2/'
kill -CONT %2
wait %2
echo "second: $?"
kill %1
wait $first
echo "first: $?"
trap 'echo caught' USR1
kill -USR1 $$
seq 1000 | tee >(tail -1 >/dev/null) | awk '{ s += $1 } END { print s }'
diff <(seq 3) <(seq 4)
sleep 100 & kill -TERM $!; wait $!
echo "killed: $?"
exit 5
