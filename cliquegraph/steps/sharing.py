"""The proof of sharing: what a step graph must satisfy to be the network that was declared.

The rules are stated from the declaration, not by unrolling it again, so that a fault in
``unroll.py`` breaks them. ``cliquegraph check`` prints the outcome as a table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, singledispatch

from cliquegraph.spec.schema import CliqueBlock, DenseBlock
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, Step, StepGraph


@dataclass(frozen=True)
class Claim:
    """One rule for one block: whether it holds, and what was counted or what breaks it."""

    block: int
    rule: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Proof:
    """Every rule for every block."""

    claims: tuple[Claim, ...]

    @property
    def holds(self) -> bool:
        """Whether every rule holds."""
        return all(claim.holds for claim in self.claims)

    @property
    def failures(self) -> tuple[Claim, ...]:
        """The rules that are broken."""
        return tuple(claim for claim in self.claims if not claim.holds)


class BrokenRule(Exception):  # noqa: N818  # not an error of the user's: it becomes a claim
    """Raised by a rule that does not hold, with what breaks it."""


def prove_sharing(steps: StepGraph, rules: Sequence[Rule] | None = None) -> Proof:
    """Check every rule, or those that are given, on every block.

    1. one kernel per pair: every ordered pair that is read has exactly one kernel, and it leads
       from the layer that is read to the layer that is written.
    2. stages of each kernel: W(i→j) is used in exactly the stages that the schedule says.
    3. no kernel unused: the kernels are those of the pairs that the declaration has, all used.
    4. versions: every step reads exactly the versions that the schedule gives it, each written
       before; each version is written once.
    5. block feature and transit: they are the versions of their stages.
    6. unrolled without a cycle: the unrolled block is acyclic.
    7. a clique: the loop graph is strongly connected where stage 2 visits every layer.

    That no two pairs share storage is a property of the parameters, and so of the op graph:
    ``ir/verify.py`` checks it.

    >>> import cliquegraph
    >>> proof = prove_sharing(cliquegraph.unroll(cliquegraph.load("specs/quickstart.yaml")))
    >>> proof.holds
    True
    """
    return Proof(
        tuple(
            _check(block, said, rule)
            for block, said in ((each, declared(each.spec, each.index)) for each in steps.blocks)
            for rule in (RULES if rules is None else rules)
        )
    )


def _check(block: BlockSteps, said: Declared, rule: Rule) -> Claim:
    try:
        detail = rule.check(block, said)
    except BrokenRule as broken:
        return Claim(block.index, rule.name, False, str(broken))
    return Claim(block.index, rule.name, True, detail)


@dataclass(frozen=True)
class Rule:
    """A rule by name; ``check`` returns what it counted or raises ``BrokenRule``."""

    name: str
    check: Callable[[BlockSteps, Declared], str]


@dataclass(frozen=True)
class Declared:
    """A block as its spec declares it, without unrolling.

    Attributes:
        block: its index.
        order: layers in the order of their visits.
        updates: how many layers each stage visits, from stage 1.
        simultaneous: whether updates read the previous stage alone.
        feature_stage, transit_stage: the stages of the block feature and of the transit.
        transit_has_x0: whether X0 goes on to the next block too.
    """

    block: int
    order: tuple[int, ...]
    updates: tuple[int, ...]
    simultaneous: bool
    feature_stage: int
    transit_stage: int
    transit_has_x0: bool

    @cached_property
    def visit(self) -> dict[int, int]:
        """The position of each layer in the order of visits, X0's 0."""
        return {layer: position for position, layer in enumerate((0, *self.order))}

    @property
    def visits(self) -> list[tuple[int, int]]:
        """The (stage, layer) of every update, in order."""
        return [
            (stage, layer)
            for stage, count in enumerate(self.updates, start=1)
            for layer in self.order[:count]
        ]

    @property
    def is_clique(self) -> bool:
        """Whether a second stage visits every layer, so that the loop closes."""
        return len(self.updates) > 1 and self.updates[1] == len(self.order)

    @cached_property
    def pairs(self) -> frozenset[Edge]:
        """The pairs that have a kernel: forward ones, and feedback to what is visited again."""
        again = set(self.order[: self.updates[1]]) if len(self.updates) > 1 else set()
        return frozenset(
            Edge(self.block, source, target)
            for target in self.order
            for source in (0, *self.order)
            if source != target and (self.visit[source] < self.visit[target] or target in again)
        )

    def version(self, layer: int, stage: int) -> Feature:
        """The newest version of a layer once ``stage`` is over."""
        if layer == 0:
            return Feature(self.block, 0, 0)
        left_out = self.visit[layer] > self.updates[stage - 1]  # of a partial last stage
        return Feature(self.block, layer, stage - left_out)

    def reads(self, stage: int, layer: int) -> list[Feature]:
        """What Eq. (1) gives one update, ascending by layer."""
        before = {source for source in self.order if self.visit[source] < self.visit[layer]}
        if stage == 1:
            return [self.version(source, 1) for source in (0, *sorted(before))]
        newest = set() if self.simultaneous else before
        return [
            self.version(source, stage if source in newest else stage - 1)
            for source in sorted(self.order)
            if source != layer
        ]


@singledispatch
def declared(spec: object, index: int) -> Declared:
    """Return what a block declares; a block kind registers its own."""
    raise TypeError(f"nothing is known of what {type(spec).__name__} declares")


@declared.register
def _(spec: CliqueBlock, index: int) -> Declared:
    return Declared(
        block=index,
        order=spec.visiting_order,
        updates=tuple(spec.updates_in(stage) for stage in range(1, spec.stages + 1)),
        simultaneous=spec.update == "simultaneous",
        feature_stage=spec.feature_stage,
        transit_stage=spec.transit_stage,
        transit_has_x0=False,
    )


@declared.register
def _(spec: DenseBlock, index: int) -> Declared:
    return Declared(
        block=index,
        order=tuple(range(1, spec.layers + 1)),
        updates=(spec.layers,),
        simultaneous=False,
        feature_stage=1,
        transit_stage=1,
        transit_has_x0=True,
    )


def _one_kernel_per_pair(block: BlockSteps, said: Declared) -> str:
    for step in block.steps:
        if len(step.reads) != len(step.weights):
            raise BrokenRule(
                f"{_name(step)} reads {len(step.reads)} layers with {len(step.weights)} kernels"
            )
        for feature, edge in zip(step.reads, step.weights, strict=True):
            right = Edge(block.index, feature.layer, step.layer)
            if edge != right:
                raise BrokenRule(f"{_name(step)} reads {feature} with {edge}, not with {right}")
        if len(set(step.weights)) != len(step.weights):
            raise BrokenRule(f"{_name(step)} uses one kernel twice")
    return f"{len(block.edges)} kernels for {len(block.edges)} pairs"


def _stages_of_each_kernel(block: BlockSteps, said: Declared) -> str:
    expected: dict[Edge, tuple[int, ...]] = defaultdict(tuple)
    for stage, layer in said.visits:
        for feature in said.reads(stage, layer):
            expected[Edge(block.index, feature.layer, layer)] += (stage,)
    for edge in sorted(expected.keys() | block.edges.keys()):
        used = tuple(sorted(block.edges.get(edge, ())))
        if used != expected[edge]:
            raise BrokenRule(
                f"{edge} is used in {_stages(used)}, the schedule says {_stages(expected[edge])}"
            )
    uses = sum(len(stages) for stages in block.edges.values())
    reused = sum(len(stages) > 1 for stages in block.edges.values())
    return f"{uses} uses, {reused} kernels re-used in a later stage"


def _no_kernel_unused(block: BlockSteps, said: Declared) -> str:
    for edge in sorted(said.pairs ^ block.edges.keys()):
        if edge in said.pairs:
            raise BrokenRule(f"{edge} is never used")
        raise BrokenRule(f"{edge} is used, but the block does not have it")
    forward = sum(said.visit[edge.source] < said.visit[edge.target] for edge in block.edges)
    return f"{forward} forward, {len(block.edges) - forward} feedback"


def _versions(block: BlockSteps, said: Declared) -> str:
    visits = said.visits
    found = [(step.stage, step.layer) for step in block.steps]
    if found != visits:
        raise BrokenRule(f"the updates are {found}, the schedule says {visits}")
    written = {Feature(block.index, 0, 0)}
    for step in block.steps:
        unwritten = [feature for feature in step.reads if feature not in written]
        if unwritten:
            raise BrokenRule(f"{_name(step)} reads {_names(unwritten)} before it is written")
        expected = said.reads(step.stage, step.layer)
        if list(step.reads) != expected:
            raise BrokenRule(
                f"{_name(step)} reads {_names(step.reads)}, the schedule gives {_names(expected)}"
            )
        if step.writes in written:
            raise BrokenRule(f"{_name(step)} writes {step.writes} a second time")
        if step.writes != Feature(block.index, step.layer, step.stage):
            raise BrokenRule(f"{_name(step)} writes {step.writes}")
        written.add(step.writes)
    return f"{len(block.steps)} updates, {len(written) - 1} versions"


def _feature_and_transit(block: BlockSteps, said: Declared) -> str:
    layers = (0, *sorted(said.order))
    feature = [said.version(layer, said.feature_stage) for layer in layers]
    going_on = layers if said.transit_has_x0 else layers[1:]
    transit = [said.version(layer, said.transit_stage) for layer in going_on]
    for what, found, expected in (
        ("block feature", block.feature, feature),
        ("transit", block.transit, transit),
    ):
        if list(found) != expected:
            raise BrokenRule(
                f"the {what} is {_names(found)}, the schedule gives {_names(expected)}"
            )
    return f"feature of stage {said.feature_stage}, transit of stage {said.transit_stage}"


def _acyclic(block: BlockSteps, said: Declared) -> str:
    import networkx as nx

    unrolled = block.to_networkx()
    if not nx.is_directed_acyclic_graph(unrolled):
        cycle = " → ".join(str(source) for source, _ in nx.find_cycle(unrolled))
        raise BrokenRule(f"a cycle: {cycle}")
    return f"depth {len(list(nx.topological_generations(unrolled))) - 1}"


def _strongly_connected(block: BlockSteps, said: Declared) -> str:
    import networkx as nx

    if not said.is_clique:
        return "not asked: no second stage that visits every layer"
    loop = block.loop_graph()
    loop.remove_node(0)
    components = list(nx.strongly_connected_components(loop))
    if len(components) != 1:
        raise BrokenRule(f"the layers fall into {len(components)} components: {components}")
    return f"{len(said.order)} layers, one component"


def _name(step: Step) -> str:
    return f"stage {step.stage} of X{step.layer}"


def _names(features: Iterable[Feature]) -> str:
    return "{" + ", ".join(str(feature) for feature in features) + "}"


def _stages(stages: tuple[int, ...]) -> str:
    if not stages:
        return "no stage"
    return f"stage{'s' * (len(stages) > 1)} {', '.join(map(str, stages))}"


DECIDING: tuple[Rule, ...] = (
    Rule("one kernel per pair", _one_kernel_per_pair),
    Rule("stages of each kernel", _stages_of_each_kernel),
    Rule("no kernel unused", _no_kernel_unused),
    Rule("versions read", _versions),
    Rule("block feature and transit", _feature_and_transit),
)
"""The rules that the others follow from: what is read was written before, so there is no cycle,
and the pairs are those declared, so the loop closes."""

RULES: tuple[Rule, ...] = (
    *DECIDING,
    Rule("unrolled without a cycle", _acyclic),
    Rule("a clique", _strongly_connected),
)
