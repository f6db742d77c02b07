# expect stdout="381 451 1006 [189, 1] 341934\n"
# List operations: append, insert, pop, slices, sort, reverse, search, concatenation.
numbers = []
for number in range(500):
    numbers.append(number * 7919 % 1009)
for number in range(50):
    numbers.insert(number * 3, -number)
for _ in range(100):
    numbers.pop()
numbers[10:20] = [1, 2, 3]
del numbers[::7]
numbers.sort()
middle = numbers[len(numbers) // 2]
numbers.reverse()
numbers += [numbers.index(middle), numbers.count(-1)]
print(len(numbers), middle, numbers[0], numbers[-2:], sum(numbers * 2))
