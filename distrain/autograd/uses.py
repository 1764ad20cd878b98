"""How often each parameter is used in a graph: then its gradient is complete after that many additions."""

from __future__ import annotations

from distrain.autograd.function_node import FunctionNode
from distrain.autograd.variable import Variable


def count_uses(root: Variable) -> dict[int, int]:
    """Counts, for the leaves that a backward pass from `root` can reach, how many gradients they may receive.

    A leaf gets fewer where a function gives no gradient for it.

    Returns:
        Numbers by the `id` of the leaf's Variable.
    """
    counts: dict[int, int] = {}
    if root.creator is None:
        return counts
    seen: set[FunctionNode] = {root.creator}
    stack = [root.creator]
    while stack:
        for node in stack.pop().inputs:
            if not node.requires_grad:
                continue
            creator = node.creator
            if creator is None:
                leaf = node.variable()
                if leaf is not None:
                    counts[id(leaf)] = counts.get(id(leaf), 0) + 1
            elif creator not in seen:
                seen.add(creator)
                stack.append(creator)
    return counts
