# expect stdout="lines 2000 sum 43852\n"
# Mixed compute and I/O: writes numbers to a file of its own, reads them back, adds up their digits.
import os

# The name's length is that of any process id, so that it moves no count.
path = f"{os.environ.get('TMPDIR', '/tmp')}/counterfoil-mixed-io-{os.getpid():010}"
with open(path, "x") as file:
    for number in range(2000):
        file.write(f"{number * number % 100003}\n")
with open(path) as file:
    lines = file.read().splitlines()
os.remove(path)
print("lines", len(lines), "sum", sum(int(digit) for line in lines for digit in line))
