"""The check of sharing: the rules that a step graph must satisfy to be as declared.

The rules follow from the declaration, not from unrolling it again, so that a bug in ``unroll.py``
breaks them. ``cliquegraph check`` prints the outcome as a table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from cliquegraph.blocks.model import Block, Output
from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, Step, StepGraph

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Claim:
    """One rule for one block: whether it holds, with counts or with what breaks it."""

    block: int
    rule: str
    holds: bool
    detail: str


@dataclass(frozen=True, repr=False)
class Proof:
    """The result of the check: every rule for every block."""

    claims: tuple[Claim, ...]

    def __repr__(self) -> str:
        rules = len({claim.rule for claim in self.claims})
        blocks = len({claim.block for claim in self.claims})
        count = f"{rules} rules, {blocks} block{'s' * (blocks > 1)}"
        return f"<Proof: {'holds' if self.holds else 'does not hold'}, {count}>" + "".join(
            f"\n  block {claim.block}, {claim.rule}: {claim.detail}" for claim in self.failures
        )

    def text(self) -> str:
        """Return every rule of every block as a line."""
        return "\n".join(
            f"{'✓' if claim.holds else '✗'} block {claim.block}, {claim.rule}: {claim.detail}"
            for claim in self.claims
        )

    @property
    def holds(self) -> bool:
        """Whether every rule holds."""
        return all(claim.holds for claim in self.claims)

    @property
    def failures(self) -> tuple[Claim, ...]:
        """The rules that are broken."""
        return tuple(claim for claim in self.claims if not claim.holds)


class BrokenRule(Exception):  # noqa: N818  # not a user's error: it becomes a claim
    """Raised by a rule that does not hold, with what breaks it."""


def prove_sharing(steps: StepGraph, rules: Sequence[Rule] | None = None) -> Proof:
    """Check every rule, or only ``rules``, on every block.

    1. one kernel per pair: every ordered pair that is read has exactly one kernel, and it leads
       from the layer that is read to the layer that is written.
    2. stages of each kernel: W(i→j) is used in exactly the stages that the schedule requires.
    3. no kernel unused: the kernels are those of the declared pairs, and all are used.
    4. versions: every step reads exactly the versions that the schedule requires, each written
       before; each version is written once.
    5. block feature and transit: they are the versions of their stages, and so is what readouts
       over time read, from the first stage in which X0 has reached all of it.
    6. unrolled without a cycle: the unrolled block is acyclic.
    7. connected: the loop graph is strongly connected where every two layers read each other and
       stage 2 visits them all; otherwise every layer is reachable from X0 and reaches an output.

    That no two pairs share storage is a property of the parameters, and so of the op graph:
    ``ir/verify.py`` checks it.

    Args:
        steps: the step graph, ``cliquegraph.unroll(network)``.
        rules: the rules to check; default: all.

    >>> import cliquegraph
    >>> proof = prove_sharing(cliquegraph.unroll(cliquegraph.load("specs/quickstart.yaml")))
    >>> proof.holds
    True
    """
    require_type(steps, StepGraph, "cliquegraph.unroll(network)")
    return Proof(
        tuple(
            _check(block, declared, rule)
            for block, declared in (
                (each, Declared(each.index, each.declared)) for each in steps.blocks
            )
            for rule in (RULES if rules is None else rules)
        )
    )


def _check(block: BlockSteps, declared: Declared, rule: Rule) -> Claim:
    try:
        detail = rule.check(block, declared)
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
    """What a block declares, without unrolling it.

    Attributes:
        block: its index.
        model: the block.
    """

    block: int
    model: Block

    @property
    def order(self) -> tuple[int, ...]:
        """The layers in visiting order."""
        return self.model.schedule.order

    @property
    def updates(self) -> tuple[int, ...]:
        """How many layers each stage visits, from stage 1."""
        return self.model.schedule.updates

    @cached_property
    def visit(self) -> dict[int, int]:
        """The position of each layer in visiting order; X0 is at 0."""
        return {layer: position for position, layer in enumerate((0, *self.order))}

    @property
    def visits(self) -> list[tuple[int, int]]:
        """The (stage, layer) of every update, in order."""
        return [
            (stage, layer)
            for stage, count in enumerate(self.updates, start=1)
            for layer in self.order[:count]
        ]

    @cached_property
    def pairs(self) -> frozenset[Edge]:
        """The pairs with a kernel: forward ones, and feedback to layers that are visited again."""
        again = set(self.order[: self.updates[1]]) if len(self.updates) > 1 else set()
        return frozenset(
            Edge(self.block, read.source, target)
            for target in self.order
            for read in self.model.layer(target).reads
            if read.by_kernel and (self._reads_first(read.source, target) or target in again)
        )

    def _reads_first(self, source: int, target: int) -> bool:
        """Whether a layer reads a source in stage 1: X0, and layers visited before it."""
        before = self.visit[source] < self.visit[target]
        return source == 0 or (before and self.model.schedule.initial == "visit")

    def version(self, layer: int, stage: int) -> Feature:
        """The newest version of a layer at the end of ``stage``."""
        if layer == 0:
            return Feature(self.block, 0, 0)
        is_skipped = self.visit[layer] > self.updates[stage - 1]  # in a partial last stage
        return Feature(self.block, layer, stage - is_skipped)

    def reads(self, stage: int, layer: int) -> list[Feature]:
        """What the schedule has one update read (Eq. 1), in the order of its reads."""
        versions = []
        for read in self.model.layer(layer).reads:
            source = read.source
            if stage == 1:
                if self._reads_first(source, layer):
                    versions.append(self.version(source, 1))
            elif source == 0:
                if read.every_stage:
                    versions.append(self.version(0, stage))
            else:
                before = self.visit[source] < self.visit[layer]
                newest = before and not self.model.schedule.simultaneous
                versions.append(self.version(source, stage if newest else stage - 1))
        return versions

    def weights(self, stage: int, layer: int) -> list[Edge]:
        """The kernels through which one update reads."""
        by_kernel = {read.source for read in self.model.layer(layer).reads if read.by_kernel}
        return [
            Edge(self.block, feature.layer, layer)
            for feature in self.reads(stage, layer)
            if feature.layer in by_kernel
        ]

    def output_versions(self, output: Output) -> list[Feature]:
        """The versions of which an output of the block consists."""
        layers = ((0,) if output.with_input else ()) + output.layers
        return [self.version(layer, output.stage) for layer in layers]

    def readings(self) -> dict[int, list[Feature]]:
        """What readouts over time read, by stage."""
        feature = self.model.feature
        reached = [self.version(0, 1)]
        for stage, layer in self.visits:
            if any(read in reached for read in self.reads(stage, layer)):
                reached.append(Feature(self.block, layer, stage))
        versions = {
            stage: self.output_versions(replace(feature, stage=stage))
            for stage in range(1, feature.stage + 1)
        }
        complete = [stage for stage, each in versions.items() if all(f in reached for f in each)]
        return {stage: each for stage, each in versions.items() if stage >= min(complete)}


def _one_kernel_per_pair(block: BlockSteps, declared: Declared) -> str:
    for step in block.steps:
        if len(step.reads) != len(step.weights):
            raise BrokenRule(
                f"{_name(step)} reads {len(step.reads)} layers with {len(step.weights)} kernels"
            )
        by_kernel = {
            read.source for read in declared.model.layer(step.layer).reads if read.by_kernel
        }
        for feature, edge in zip(step.reads, step.weights, strict=True):
            pair = Edge(block.index, feature.layer, step.layer)
            expected = pair if feature.layer in by_kernel else None
            if edge != expected:
                how = "as the value itself" if edge is None else f"with {edge}"
                required = "as the value itself" if expected is None else f"with {expected}"
                raise BrokenRule(f"{_name(step)} reads {feature} {how}, not {required}")
        if len(set(step.kernels)) != len(step.kernels):
            raise BrokenRule(f"{_name(step)} uses one kernel twice")
    return f"{len(block.edges)} pairs with kernels of their own"


def _stages_of_each_kernel(block: BlockSteps, declared: Declared) -> str:
    expected: dict[Edge, tuple[int, ...]] = defaultdict(tuple)
    for stage, layer in declared.visits:
        for edge in declared.weights(stage, layer):
            expected[edge] += (stage,)
    for edge in sorted(expected.keys() | block.edges.keys()):
        used = tuple(sorted(block.edges.get(edge, ())))
        if used != expected[edge]:
            raise BrokenRule(
                f"{edge} is used in {_stages(used)}, the schedule says {_stages(expected[edge])}"
            )
    uses = sum(len(stages) for stages in block.edges.values())
    reused = sum(len(stages) > 1 for stages in block.edges.values())
    return f"{uses} uses, {reused} kernels re-used in a later stage"


def _no_kernel_unused(block: BlockSteps, declared: Declared) -> str:
    for edge in sorted(declared.pairs ^ block.edges.keys()):
        if edge in declared.pairs:
            raise BrokenRule(f"{edge} is never used")
        raise BrokenRule(f"{edge} is used, but the block does not have it")
    forward = sum(declared.visit[edge.source] < declared.visit[edge.target] for edge in block.edges)
    return f"{forward} forward, {len(block.edges) - forward} feedback"


def _versions(block: BlockSteps, declared: Declared) -> str:
    visits = declared.visits
    updates = [(step.stage, step.layer) for step in block.steps]
    if updates != visits:
        raise BrokenRule(f"the updates are {updates}, the schedule says {visits}")
    written = {Feature(block.index, 0, 0)}
    for step in block.steps:
        unwritten = [feature for feature in step.reads if feature not in written]
        if unwritten:
            raise BrokenRule(f"{_name(step)} reads {_names(unwritten)} before it is written")
        expected = declared.reads(step.stage, step.layer)
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


def _feature_and_transit(block: BlockSteps, declared: Declared) -> str:
    feature, transit = declared.model.feature, declared.model.transit
    for what, actual, expected in (
        ("block feature", block.feature, declared.output_versions(feature)),
        ("transit", block.transit, declared.output_versions(transit)),
    ):
        if list(actual) != expected:
            raise BrokenRule(
                f"the {what} is {_names(actual)}, the schedule gives {_names(expected)}"
            )
    detail = f"feature of stage {feature.stage}, transit of stage {transit.stage}"
    return f"{detail}{_readings(block, declared)}"


def _readings(block: BlockSteps, declared: Declared) -> str:
    if not block.readings:
        return ""
    expected, actual = declared.readings(), {each.stage: each.features for each in block.readings}
    if [*actual] != [*expected]:
        read = f"{_stages(tuple(actual))}, the schedule says {_stages(tuple(expected))}"
        raise BrokenRule(f"readouts read {read}")
    for stage, features in actual.items():
        if list(features) != expected[stage]:
            raise BrokenRule(
                f"the readout of stage {stage} reads {_names(features)}, "
                f"the schedule gives {_names(expected[stage])}"
            )
    return f", read in {_stages(tuple(actual))}"


def _acyclic(block: BlockSteps, declared: Declared) -> str:
    import networkx as nx

    unrolled = block.to_networkx()
    if not nx.is_directed_acyclic_graph(unrolled):
        cycle = " → ".join(str(source) for source, _ in nx.find_cycle(unrolled))
        raise BrokenRule(f"a cycle: {cycle}")
    return f"depth {len(list(nx.topological_generations(unrolled))) - 1}"


def _connected(block: BlockSteps, declared: Declared) -> str:
    import networkx as nx

    loop = block.loop_graph()
    if not declared.model.is_complete:
        return _leads_through(loop, declared)
    loop.remove_node(0)
    components = list(nx.strongly_connected_components(loop))
    if len(components) != 1:
        raise BrokenRule(f"the layers fall into {len(components)} components: {components}")
    return f"{len(declared.order)} layers, one component"


def _leads_through(loop: nx.DiGraph[int], declared: Declared) -> str:
    """Every layer is reachable from X0, and reaches an output of the block."""
    import networkx as nx

    reached = nx.descendants(loop, 0)
    if lost := sorted(set(declared.order) - reached):
        raise BrokenRule(f"nothing leads from X0 to {_layers(lost)}")
    outputs = {*declared.model.feature.layers, *declared.model.transit.layers}
    ends = outputs.union(*(nx.ancestors(loop, layer) for layer in outputs))
    if lost := sorted(set(declared.order) - ends):
        raise BrokenRule(f"nothing leads from {_layers(lost)} out of the block")
    return f"{len(declared.order)} layers, each reached from X0 and leading out"


def _layers(layers: Iterable[int]) -> str:
    return ", ".join(f"X{layer}" for layer in layers)


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
"""The rules that imply the others: what is read was written before, so there is no cycle, and the
pairs are those declared, so the loop closes."""

RULES: tuple[Rule, ...] = (
    *DECIDING,
    Rule("unrolled without a cycle", _acyclic),
    Rule("connected", _connected),
)
