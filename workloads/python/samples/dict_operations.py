# expect stdout="69 247583 69 5 key1\n1269814 False\n"
# Dictionary operations: insert, look up, delete, default, merge, views, iteration in order.
table = {}
for number in range(1000):
    key = f"key{number % 137}"
    table[key] = table.get(key, 0) + number
for number in range(0, 137, 2):
    del table[f"key{number}"]
table.setdefault("key0", -1)
merged = {**table, "key1": 0, "other": 5}
common = table.keys() & merged.keys()
print(len(table), sum(table.values()), len(common), merged.pop("other"), next(iter(merged)))
print(sum(len(key) * value for key, value in merged.items()), "key2" in merged)
