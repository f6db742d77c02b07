# expect stdout="500 49 83167 87 20833250\n"
# Comprehensions: list, set, dictionary, generator, nested and filtered.
squares = [number * number for number in range(500)]
remainders = {square % 97 for square in squares}
table = {number: square for number, square in enumerate(squares) if square % 3 == 1}
pairs = [(left, right) for left in range(30) for right in range(left) if (left + right) % 5 == 0]
total = sum(square for square in squares if square & 1)
print(len(squares), len(remainders), sum(table), len(pairs), total)
