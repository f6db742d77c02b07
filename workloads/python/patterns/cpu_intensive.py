# expect stdout="primes 303 sum 277050\n"
# CPU-intensive: the primes below 2000 by trial division.


def is_prime(number):
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return number >= 2


primes = [number for number in range(2000) if is_prime(number)]
print("primes", len(primes), "sum", sum(primes))
