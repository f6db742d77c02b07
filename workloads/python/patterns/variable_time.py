# expect stdout="items 500 steps 26143 longest 143\n"
# Items of variable time: how many steps each of 500 numbers takes to reach 1 (Collatz).


def steps(number):
    taken = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        taken += 1
    return taken


items = [steps(number) for number in range(1, 501)]
print("items", len(items), "steps", sum(items), "longest", max(items))
