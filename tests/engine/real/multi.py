import multiprocessing
import sys


def work(number):
    return sum(i * i for i in range(number))


if __name__ == "__main__":
    for method in "fork", "spawn":
        with multiprocessing.get_context(method).Pool(3) as pool:
            print(method, sum(pool.map(work, range(300))))
    sys.stdout.flush()
