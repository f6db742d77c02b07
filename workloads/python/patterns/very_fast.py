# expect stdout="3\n"
# A very fast function: a handful of bytecodes, called once. What counts here is what surrounds it.


def add(left, right):
    return left + right


print(add(1, 2))
