"""A page that is computed anew when a field of a node changes.

The nodes of a memory are pages of a State of mmsb, so whatever mmsb does with pages works on them: here a page holds
the total cost of some tasks, and every commit that changes one of them sets off a wave.
"""

from __future__ import annotations

from myosotis import Memory, decode_node


def add_costs(out: memoryview, *tasks: memoryview) -> None:
    """Computes the page: 8 bytes, little-endian."""
    total = sum(decode_node(bytes(task)).fields["cost"] for task in tasks)
    out[:] = total.to_bytes(8, "little")


def main() -> None:
    """Prints the total before and after a change, and who caused the wave."""
    with Memory.open() as memory:
        tasks = [memory.create("Task", name=name, cost=cost) for name, cost in (("dig", 3), ("plant", 4), ("water", 1))]
        memory.commit("three tasks")

        total = memory.state.create_page(8, name="total cost")
        memory.state.depend("total cost", on=[memory.page(task) for task in tasks], fn=add_costs)
        print("total:", int.from_bytes(total.read(), "little"))

        tasks[1].cost = 40
        memory.commit("planting is hard")
        print("total:", int.from_bytes(total.read(), "little"))

        *_, wave = memory.state.log(kind="wave")
        print("computed because of commit", memory.store.id_of(wave.cause))


if __name__ == "__main__":
    main()
