# expect stdout="397250 False\n"
# Attribute access: instance, class, slots, property, inheritance, getattr and __getattr__.


class Base:
    shared = 2

    def __init__(self, value):
        self.value = value

    @property
    def doubled(self):
        return self.value * self.shared

    def __getattr__(self, name):
        return len(name)


class Derived(Base):
    shared = 3


class Slotted:
    __slots__ = ("value",)


total = 0
base, derived, slotted = Base(5), Derived(7), Slotted()
for turn in range(500):
    slotted.value = turn
    base.value += 1
    total += base.doubled + derived.doubled + slotted.value + base.missing
    total += getattr(derived, "value") - getattr(slotted, "absent", 1)
print(total, hasattr(slotted, "absent"))
