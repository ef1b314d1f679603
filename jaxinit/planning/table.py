"""The text of print(plan)."""

from typing import Any

from .._checks import printable
from .makers.constant import Constant


def render(plan: Any) -> str:
    """One line a group: how many leaves, of which shape, how many bytes."""
    compiled = [g for g in plan.groups if not isinstance(g.maker, Constant)]
    lines = [
        f"{len(plan.leaves)} arrays, {size(sum(leaf.bytes for leaf in plan.leaves))}, "
        f"in {len(plan.groups)} groups, of which "
        f"{len(compiled)} are compiled"
    ]
    if plan.reason is not None:
        lines.append(f"compiled as one program, because {plan.reason}")
    lines.append(
        f"{'group':>5} {'leaves':>6} {'bytes':>9}  leaf (the first of the group)"
    )
    for g, group in enumerate(plan.groups):
        leaves = [plan.leaves[i] for i in group.leaves]
        if not leaves:
            continue
        total = size(sum(leaf.bytes for leaf in leaves))
        first = leaves[0]
        shape = ", ".join(map(str, first.shape))
        what = f"{printable(first.path)} {first.dtype.name}[{shape}]"
        what += group.maker.note()
        if first.coarse is not None:
            width, names = first.coarse
            what += (
                f"  ! drawn from {width} bits: few distinct values and a bias; "
                f"jaxinit's {names} draw in float32"
            )
        lines.append(f"{g:>5} {len(leaves):>6} {total:>9}  {what}")
    kept = [leaf for leaf in plan.leaves if leaf.group is None]
    if kept:
        path = printable(kept[0].path)
        lines.append(f"{'-':>5} {len(kept):>6} {'':>9}  {path} as it is")
    memory = plan.memory()
    lines.append(f"expected peak on one device: {size(memory['peak'])}")
    return "\n".join(lines)


def size(count: int) -> str:
    """Bytes with a unit: 1.5 MB."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.3g} {units[0]}"
