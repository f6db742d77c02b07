# Writes a history of so many commits for `git fast-import`: the same one every time.
import sys

for number in range(1, int(sys.argv[1]) + 1):
    message = f"Change {number}\n\nBecause it was time.\n"
    content = "".join(f"line {i} of {number if i % 7 == number % 7 else 0}\n" for i in range(40))
    print(f"commit refs/heads/main\nmark :{number}")
    print(f"committer A <a@example.org> {1700000000 + number * 600} +0000")
    print(f"data {len(message)}\n{message}")
    print(f"M 100644 inline src/{number % 50}.txt\ndata {len(content)}\n{content}")
