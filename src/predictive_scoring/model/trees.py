"""Boosted trees read from LightGBM's model text: raw log-odds and exact contributions, in NumPy alone.

A service that scores one lead at a time needs neither LightGBM (70 MB with what it imports) nor its recursion over
every tree. Which way a row goes at each node is one comparison of arrays. A leaf's Shapley values depend on nothing
but which of the few features on its path the row satisfies, so they stand in a table, made once per model:

    phi_i = v (o_i - z_i) sum_S |S|! (d - 1 - |S|)! / d!  prod_(j in S) o_j  prod_(j not in S) z_j,    S within F \\ {i}

F are the d features on the path to a leaf of value v, z_j the share of training rows that the splits on j let through,
o_j = 1 where the row satisfies them, else 0. This is path-dependent TreeSHAP (Lundberg et al., 2020,
algorithm 2) with the sum over subsets carried out beforehand; the product over a feature's several splits is one z_j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.columns import Column

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.intp]
Truths = npt.NDArray[np.bool_]

FAR = 1e300
"""What a missing value of a column with a direction counts as, on its least favourable side."""
LARGEST_TABLES = 4_000_000
"""Numbers in all tables together (32 MB). Sixteen leaves and 160 trees need a million; thirty-one leaves and 600 trees
would need a hundred: LightGBM itself explains such a model."""
DEEPEST = 8
"""Different columns on a path: a pattern fits a byte."""

_CATEGORICAL, _DEFAULT_LEFT, _MISSING = 1, 2, 12
_NO_MISSING, _ZERO_MISSING = 0, 4


@dataclass(frozen=True)
class Trees:
    """All trees in one list of nodes and one of leaves; made by :meth:`read`.

    Numeric nodes come first: their column is ``feature`` (m,), values up to ``threshold`` (m,) go left, and
    ``missing_left`` (m,) says where a missing value goes. Of the categorical nodes ``category`` (c,) is the column and
    ``members`` the flat table of which codes go left, from ``first_code`` (c,) on, ``unknown`` codes a node; the last
    one stands for a missing and for any larger code.
    Leaves are numbered after the nodes: ``right`` and ``left`` (m + c + leaves,) are what follows, of a leaf itself.
    ``roots`` (trees,) are the first of each tree, ``depth`` steps lead to its leaf, and ``values`` are log-odds."""

    feature: Whole
    threshold: Floats
    missing_left: Truths
    category: Whole
    first_code: Whole
    members: Truths
    unknown: int
    right: Whole
    left: Whole
    roots: Whole
    depth: int
    values: Floats
    tables: Tables | None

    @classmethod
    def read(cls, text: str, columns: Sequence[Column]) -> Self:
        """The trees of a LightGBM model text over the columns. Raises ValueError for a text that is damaged, or holds
        something else than plain binary trees (linear leaves, zeros as missing values)."""
        try:
            trees = [_Tree.of(_fields(block)) for block in text.split("\nTree=")[1:]]
        except (KeyError, IndexError) as refused:
            raise ValueError(f"the text of the trees is not whole: {refused}") from refused
        if any(tree.feature.max(initial=-1) >= len(columns) for tree in trees):
            raise ValueError("the trees read columns that the model does not have")
        kinds = _joined([tree.categorical for tree in trees], np.bool_)
        nodes, leaves = len(kinds), sum(len(tree.values) for tree in trees)
        # Node by its place in the text -> number; a stable order keeps numeric nodes as they come.
        number = np.empty(nodes, dtype=np.intp)
        number[np.argsort(kinds, kind="stable")] = np.arange(nodes)
        after = np.arange(nodes + leaves)
        left, right = after.copy(), after.copy()
        roots, placed, paths, node, leaf = [], [], [], 0, 0
        for tree in trees:
            own = number[node : node + len(tree.feature)]
            # A child below zero is a leaf: -1 the first.
            places = np.concatenate([own, nodes + leaf + np.arange(len(tree.values))[::-1]])
            right[own], left[own] = places[tree.below[:, 0]], places[tree.below[:, 1]]
            roots.append(places[0] if len(own) else nodes + leaf)
            placed.append(own)
            paths.append(tree.paths())
            node, leaf = node + len(own), leaf + len(tree.values)
        feature = np.empty(nodes, dtype=np.intp)
        feature[number] = _joined([tree.feature for tree in trees], np.intp)
        threshold = np.empty(nodes)
        threshold[number] = _joined([tree.threshold for tree in trees], np.float64)
        missing_left = np.empty(nodes, dtype=np.bool_)
        missing_left[number] = _joined([tree.missing_left for tree in trees], np.bool_)
        numeric = nodes - int(kinds.sum())
        directions = np.array([column.direction for column in columns], dtype=np.float64)[feature]
        # A column with a direction never shows its trees a missing value: see `FAR`.
        missing_left = np.where(directions != 0.0, -directions * FAR <= threshold, missing_left)
        codes = [codes for tree in trees for _, codes in sorted(tree.members.items())]
        unknown = max((max(several, default=-1) for several in codes), default=-1) + 1
        members = np.zeros((len(codes), unknown + 1), dtype=np.bool_)
        for row, several in zip(members, codes, strict=True):
            row[list(several)] = True
        return cls(
            feature=feature[:numeric],
            threshold=threshold[:numeric],
            missing_left=missing_left[:numeric],
            category=feature[numeric:],
            first_code=np.arange(len(codes)) * (unknown + 1),
            members=members.ravel(),
            unknown=unknown,
            right=right,
            left=left,
            roots=np.array(roots, dtype=np.intp),
            depth=max((len(path) for several in paths for _, path in several), default=0),
            values=_joined([tree.values for tree in trees], np.float64),
            tables=_tables(trees, paths, placed, len(columns)),
        )

    def ways(self, row: Floats) -> Truths:
        """Which nodes send one encoded row (k,) left, (m + c,)."""
        values = row.take(self.feature)
        numeric = values <= self.threshold
        numeric |= np.isnan(values) & self.missing_left
        if not len(self.category):
            return numeric
        codes = np.where((row >= 0.0) & (row < self.unknown), row, self.unknown).astype(np.intp)
        return np.concatenate([numeric, self.members.take(codes.take(self.category) + self.first_code)])

    def margin(self, ways: Truths) -> float:
        """Raw log-odds of a row whose :meth:`ways` are given."""
        at = self.roots
        for _ in range(self.depth):
            # A leaf follows itself, whatever stands at its place of the ways.
            at = np.where(ways.take(at, mode="clip"), self.left.take(at), self.right.take(at))
        # Added tree by tree, as LightGBM does: the sum is the same to the last bit.
        found = self.values.take(at - len(ways))
        return float(np.cumsum(found)[-1]) if len(found) else 0.0


@dataclass(frozen=True)
class Tables:
    """Shapley values of the leaves that have a path.

    Of each leaf (l): its path as ``node`` and ``side`` (p, l), padded, and the ``bit`` (p, l) of the step's column, 0
    in the padding. An entry (e,) is a column on the path of ``leaf``: ``table`` from ``start`` on holds its value for
    every pattern of failed columns. Entries are in order of their columns; those of ``owners`` begin at ``begins``."""

    base: float
    node: Whole
    side: npt.NDArray[np.uint8]
    bit: npt.NDArray[np.uint8]
    leaf: Whole
    start: Whole
    table: Floats
    owners: Whole
    begins: Whole
    columns: int

    def contributions(self, ways: Truths) -> Floats:
        """Contributions (k,) of a row whose :meth:`Trees.ways` are given, in log-odds."""
        phi = np.zeros(self.columns)
        if len(self.owners):
            steps = (ways.view(np.uint8).take(self.node) ^ self.side) * self.bit
            failed = np.bitwise_or.reduce(steps, axis=0)
            shares = self.table.take(failed.take(self.leaf) + self.start)
            phi[self.owners] = np.add.reduceat(shares, self.begins)
        return phi


@dataclass(frozen=True)
class _Tree:
    """One tree of the text, its nodes and leaves numbered from 0. `cover` are the training rows at the nodes, then at
    the leaves (a leaf as `-1 - leaf`, so that it is found from the end)."""

    feature: Whole
    threshold: Floats
    missing_left: Truths
    categorical: Truths
    members: Mapping[int, tuple[int, ...]]
    below: Whole
    values: Floats
    cover: Floats

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Self:
        if fields.get("is_linear", "0") != "0":
            raise ValueError("a tree with linear leaves has no contributions per leaf")
        values, leaves = _floats(fields["leaf_value"]), int(fields["num_leaves"])
        if leaves == len(values) == 1:
            none = np.zeros(0)
            never, nowhere = none.astype(np.bool_), np.zeros((0, 2), dtype=np.intp)
            return cls(none.astype(np.intp), none, never, never, {}, nowhere, values, np.ones(1))
        kinds = _floats(fields["decision_type"]).astype(np.int64)
        if ((kinds & _MISSING) == _ZERO_MISSING).any():
            raise ValueError("a tree takes zeros for missing values, which no model of this package does")
        threshold = _floats(fields["threshold"])
        categorical = (kinds & _CATEGORICAL) > 0
        members = {}
        if categorical.any():
            bounds = _floats(fields["cat_boundaries"]).astype(np.int64)
            words = [int(word) for word in fields["cat_threshold"].split()]
            if bounds[-1] != len(words):
                raise ValueError("the text of the trees is not whole")
            for node in np.flatnonzero(categorical).tolist():
                chosen = int(threshold[node])
                first, last = bounds[chosen : chosen + 2]
                members[node] = tuple(
                    32 * place + bit
                    for place, word in enumerate(words[first:last])
                    for bit in range(32)
                    if word >> bit & 1
                )
        # Without missing values in training LightGBM reads one as 0.
        missing_left = np.where(
            (kinds & _MISSING) == _NO_MISSING, threshold >= 0.0, (kinds & _DEFAULT_LEFT) > 0
        )
        children = [_floats(fields[side]).astype(np.intp) for side in ("right_child", "left_child")]
        tree = cls(
            feature=_floats(fields["split_feature"]).astype(np.intp),
            threshold=threshold,
            missing_left=missing_left,
            categorical=categorical,
            members=members,
            below=np.stack(children, axis=1),
            values=values,
            cover=np.concatenate([_floats(fields["internal_count"]), _floats(fields["leaf_count"])[::-1]]),
        )
        lengths = {len(tree.feature), len(threshold), len(kinds), len(tree.below)}
        # Every node but the first, and every leaf, is below one node: no way leads out or in a circle.
        followers = [*range(-leaves, 0), *range(1, leaves - 1)]
        if (
            (lengths, len(values), len(tree.cover)) != ({leaves - 1}, leaves, 2 * leaves - 1)
            or sorted(tree.below.ravel().tolist()) != followers
            or not (tree.cover > 0.0).all()
        ):
            raise ValueError("the text of the trees is not whole")
        return tree

    def paths(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """Of each leaf its number and the way to it: (node, 1 for left or 0 for right) from the root."""
        found: list[tuple[int, list[tuple[int, int]]]] = []
        waiting: list[tuple[int, list[tuple[int, int]]]] = [(0 if len(self.feature) else -1, [])]
        while waiting:
            at, path = waiting.pop()
            if at < 0:
                found.append((-1 - at, path))
                continue
            waiting += [(int(self.below[at, side]), [*path, (at, side)]) for side in (0, 1)]
        return found


def _tables(
    trees: Sequence[_Tree],
    paths: Sequence[Sequence[tuple[int, Sequence[tuple[int, int]]]]],
    placed: Sequence[Whole],
    columns: int,
) -> Tables | None:
    """The tables of all leaves, given the ``paths`` of each tree and the numbers of its nodes; None where they would
    be too large."""
    base = 0.0
    leaves: list[_Leaf] = []
    for tree, several, number in zip(trees, paths, placed, strict=True):
        expected = 0.0
        for leaf, path in several:
            value, reached = float(tree.values[leaf]), 1.0
            passed: dict[int, float] = {}
            for node, side in path:
                column = int(tree.feature[node])
                step = float(tree.cover[tree.below[node, side]] / tree.cover[node])
                passed[column] = passed.get(column, 1.0) * step
                reached *= step
            expected += reached * value
            if path:
                bits = {column: 1 << place for place, column in enumerate(passed)}
                steps = [(int(number[node]), side, bits[int(tree.feature[node])]) for node, side in path]
                leaves.append(_Leaf(value, steps, list(passed), list(passed.values())))
        base += expected
    depths = np.array([len(leaf.owners) for leaf in leaves], dtype=np.intp)
    if leaves and (depths.max() > DEEPEST or int((depths << depths).sum()) > LARGEST_TABLES):
        return None
    longest = max((len(leaf.steps) for leaf in leaves), default=0)
    ways = np.zeros((3, longest, len(leaves)), dtype=np.intp)
    for place, one in enumerate(leaves):
        ways[:, : len(one.steps), place] = np.array(one.steps).T
    owner = np.array([column for leaf in leaves for column in leaf.owners], dtype=np.intp)
    entry_leaf = np.repeat(np.arange(len(leaves)), depths)
    sizes = 1 << depths[entry_leaf]
    starts = np.cumsum(sizes) - sizes
    table = np.empty(int(sizes.sum()))
    for d in np.unique(depths):
        chosen = [leaves[place] for place in np.flatnonzero(depths == d)]
        entries = np.flatnonzero(depths[entry_leaf] == d)
        worked = _shapley(np.array([one.value for one in chosen]), np.array([one.passed for one in chosen]))
        table[starts[entries][:, None] + np.arange(1 << d)] = worked.reshape(-1, 1 << d)
    order = np.argsort(owner, kind="stable")
    owners, begins = np.unique(owner[order], return_index=True)
    return Tables(
        base=base,
        node=ways[0],
        side=ways[1].astype(np.uint8),
        bit=ways[2].astype(np.uint8),
        leaf=entry_leaf[order],
        start=starts[order],
        table=table,
        owners=owners,
        begins=begins,
        columns=columns,
    )


@dataclass(frozen=True)
class _Leaf:
    """A leaf's value, its path as (node, side, bit of the feature), and per feature its column and the share z."""

    value: float
    steps: list[tuple[int, int, int]]
    owners: list[int]
    passed: list[float]


def _shapley(values: Floats, z: Floats) -> Floats:
    """Shapley values (leaves, d, 2^d) for values (leaves,) and shares (leaves, d); bit j of the pattern is 1 where
    feature j failed.

    The sum over subsets of one size is a coefficient of ``prod over j of z_j + o_j t``."""
    leaves, d = z.shape
    passed = 1.0 - (np.arange(1 << d)[:, None] >> np.arange(d) & 1)
    weights = [math.factorial(size) * math.factorial(d - 1 - size) / math.factorial(d) for size in range(d)]
    answer = np.empty((leaves, d, 1 << d))
    for i in range(d):
        product = np.zeros((d, leaves, 1 << d))
        product[0] = 1.0
        for j in range(d):
            if j != i:
                shifted = np.zeros_like(product)
                shifted[1:] = product[:-1] * passed[:, j]
                product = product * z[:, j, None] + shifted
        summed = np.tensordot(weights, product, axes=1)
        answer[:, i] = values[:, None] * (passed[:, i] - z[:, i, None]) * summed
    return answer


def _fields(block: str) -> dict[str, str]:
    """`key=value` lines up to the first empty one."""
    lines = block.split("\n\n", 1)[0].splitlines()
    return dict(line.split("=", 1) for line in lines[1:] if "=" in line)


def _floats(text: str) -> Floats:
    return np.array([float(word) for word in text.split()], dtype=np.float64)


def _joined(parts: Sequence[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate([*parts, np.zeros((0, *parts[0].shape[1:]) if parts else 0)]).astype(kind)
