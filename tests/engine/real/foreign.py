# Calls into C and is called back from it, by code that libffi makes at run time.
import ctypes

libc = ctypes.CDLL(None)
Compare = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.POINTER(ctypes.c_int)] * 2)
numbers = (ctypes.c_int * 500)(*(i * 7919 % 1009 for i in range(500)))
libc.qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), Compare(lambda a, b: a[0] - b[0]))
print(list(numbers) == sorted(numbers), numbers[0], numbers[499])
libc.strtod.restype = ctypes.c_double
print(libc.strtod(b"2.5", None), libc.abs(-3))
