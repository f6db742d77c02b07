# expect stdout="166966 1000 28247\n"
# Exceptions: raised and caught, chained, finally, a class of its own, none at all.


class Refused(Exception):
    pass


def check(number):
    if number % 3 == 0:
        raise Refused(number)
    return 100 // (number % 5)


caught = finished = total = 0
for number in range(1000):
    try:
        total += check(number)
    except Refused as refused:
        caught += refused.args[0]
    except ZeroDivisionError as error:
        try:
            raise Refused(number) from error
        except Refused as chained:
            caught += chained.__cause__ is error
    else:
        total += 1
    finally:
        finished += 1
print(caught, finished, total)
