# expect stdout="visited 65536 last 0\n"
# Memory-intensive: follows one cycle through 65536 places in a scattered order.
PLACES = 1 << 16
places = [(at * 20077 + 12345) % PLACES for at in range(PLACES)]
at = visited = 0
while True:
    at = places[at]
    visited += 1
    if at == 0:
        break
print("visited", visited, "last", at)
