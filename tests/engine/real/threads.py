import queue
import threading

jobs, done = queue.Queue(), queue.Queue()


def work():
    while (number := jobs.get()) is not None:
        done.put((number, sum(i * i for i in range(number))))


workers = [threading.Thread(target=work) for _ in range(8)]
for worker in workers:
    worker.start()
for number in range(400):
    jobs.put(number)
for _ in workers:
    jobs.put(None)
for worker in workers:
    worker.join()
print(sum(hash(done.get()) & 0xFFFF for _ in range(400)))
