# expect stdout="377 139650\n"
# Calls: positional, keyword, default and variable arguments, recursion, closures, methods.


def fib(number):
    return number if number < 2 else fib(number - 1) + fib(number - 2)


def many(first, *rest, scale=1, **named):
    return (first + sum(rest) + sum(named.values())) * scale


def adder(step):
    return lambda number: number + step


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, number):
        self.count += number
        return self


counter = Counter()
add_three = adder(3)
for turn in range(300):
    counter.add(many(turn, 1, 2, scale=2, extra=4)).add(add_three(turn))
print(fib(14), counter.count)
