#!/bin/sh
# Makes the repository that `git log` and `git diff` of the suite read: `git.sh FOLDER`. Names, dates and
# contents are fixed, so that every object has the same id everywhere.
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
    export GIT_AUTHOR_DATE="2020-01-$commit 12:00:00 +0000" GIT_COMMITTER_DATE="2020-01-$commit 12:00:00 +0000"
    git add one two three
    git commit -q -m "Commit $commit"
    commit=$((commit + 1))
done
