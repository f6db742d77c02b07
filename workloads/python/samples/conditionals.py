# expect stdout="200 743 34 2697\n"
# Conditionals: chains, conditional expressions, short circuits, chained comparisons.
seen = [0, 0, 0, 0]
for number in range(3000):
    if number % 15 == 0:
        seen[0] += 1
    elif number % 5 == 0 or number % 7 == 0:
        seen[1] += 1
    elif 100 < number <= 200 and not number % 2:
        seen[2] += 1
    else:
        seen[3] += 1 if number % 3 else 2
print(*seen)
