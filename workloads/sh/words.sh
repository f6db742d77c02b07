#!/bin/sh
# expect stdout="1024 lines, 64 words, the same after gzip\n"
# Numbers are made, sorted, counted, compressed and read back: a pipeline of small programs. Each stage reads
# a finished file, for a pipe under load is cut into reads of other sizes each time, and that moves counts.
set -eu
# The folder is there and empty at the start of each run: mktemp draws another name, and counts more, when somebody else
# has just drawn the same one.
cd "$1"
trap 'rm text sorted words text.gz back' EXIT
awk 'BEGIN { for (n = 0; n < 1024; n++) print "word" n * n % 127 }' > text
sort text > sorted
uniq sorted > words
gzip -n -c text > text.gz
gzip -d -c text.gz > back
cmp text back
echo "$(wc -l < back) lines, $(wc -l < words) words, the same after gzip"
