# expect stdout="5896918\n"
# Loops: for with else, while with break and continue, nested.
total = 0
for outer in range(100):
    for inner in range(50):
        total += outer * inner
at = 0
while True:
    at += 1
    if at % 3:
        continue
    if at > 1000:
        break
    total -= at
else:
    total = None
for _ in ():
    pass
else:
    total += 1
print(total)
