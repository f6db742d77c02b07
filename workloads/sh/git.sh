#!/bin/sh
# Makes the repository that `git diff` of the suite reads: `git.sh FOLDER`. Names, dates and
# contents are fixed, so that every object has the same id everywhere. The files are older than the index: git reads
# one again that was written in the same second.
set -eu
folder=$1
rm -rf "$folder"
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=/nonexistent
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org
git -c init.defaultBranch=main -c core.hooksPath=/dev/null init -q "$folder"
cd "$folder"
git config core.hooksPath /dev/null
commit=1
while [ "$commit" -le 12 ]; do
    for file in one two three; do
        awk -v from="$commit" -v name="$file" \
            'BEGIN { for (n = 0; n < 120; n++) print name, (n * from) % 37 }' > "$file"
    done
    date="2020-01-$commit 12:00:00 +0000"
    touch -d "$date" one two three
    export GIT_AUTHOR_DATE="$date" GIT_COMMITTER_DATE="$date"
    git add one two three
    git commit -q -m "Commit $commit"
    commit=$((commit + 1))
done
