"""The proof of sharing: what a step graph must satisfy to be the network that was declared.

The rules are stated from the declaration, not by unrolling it again, so that a fault in
``unroll.py`` breaks them. ``cliquegraph check`` prints the outcome as a table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cliquegraph.spec.schema import CliqueBlock
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


def prove_sharing(steps: StepGraph) -> Proof:
    """Check every rule on every block.

    1. one kernel per pair: every ordered pair that is read has exactly one kernel, and it leads
       from the layer that is read to the layer that is written.
    2. stages of each kernel: W(i→j) is used in exactly the stages that the schedule says.
    3. no kernel unused: every kernel that the block owns is used.
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
    return Proof(tuple(_check(steps, block, rule) for block in steps.blocks for rule in RULES))


def _check(steps: StepGraph, block: BlockSteps, rule: Rule) -> Claim:
    try:
        detail = rule.check(steps, block)
    except BrokenRule as broken:
        return Claim(block.index, rule.name, False, str(broken))
    return Claim(block.index, rule.name, True, detail)


@dataclass(frozen=True)
class Rule:
    """A rule by name; ``check`` returns what it counted or raises ``BrokenRule``."""

    name: str
    check: Callable[[StepGraph, BlockSteps], str]


def _visits(block: BlockSteps) -> Iterator[tuple[int, int]]:
    """The (stage, layer) of every update that the declaration asks for, in order."""
    if not isinstance(block.spec, CliqueBlock):
        yield from ((1, layer) for layer in range(1, block.spec.layers + 1))
        return
    for stage in range(1, block.spec.stages + 1):
        for layer in block.spec.visiting_order[: block.spec.updates_in(stage)]:
            yield stage, layer


def _version(block: BlockSteps, layer: int, stage: int) -> Feature:
    """The newest version of a layer once ``stage`` is over."""
    if layer == 0:
        return Feature(block.index, 0, 0)
    if isinstance(block.spec, CliqueBlock) and block.visit[layer] > block.spec.updates_in(stage):
        stage -= 1  # left out of a partial last stage
    return Feature(block.index, layer, stage)


def _expected_reads(block: BlockSteps, stage: int, layer: int) -> list[Feature]:
    """What Eq. (1) gives one update, ascending by layer."""
    order, visit = block.order, block.visit
    before = {source for source in order if visit[source] < visit[layer]}
    if stage == 1:
        return [_version(block, source, 1) for source in (0, *sorted(before))]
    simultaneous = isinstance(block.spec, CliqueBlock) and block.spec.update == "simultaneous"
    return [
        _version(block, source, stage if source in before and not simultaneous else stage - 1)
        for source in sorted(order)
        if source != layer
    ]


def _one_kernel_per_pair(steps: StepGraph, block: BlockSteps) -> str:
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


def _stages_of_each_kernel(steps: StepGraph, block: BlockSteps) -> str:
    expected: dict[Edge, list[int]] = defaultdict(list)
    for stage, layer in _visits(block):
        for feature in _expected_reads(block, stage, layer):
            expected[Edge(block.index, feature.layer, layer)].append(stage)
    used: dict[Edge, list[int]] = defaultdict(list)
    for step in block.steps:
        for edge in step.weights:
            used[edge].append(step.stage)
    for edge in sorted(expected.keys() | used.keys()):
        if sorted(used[edge]) != expected[edge]:
            raise BrokenRule(
                f"{edge} is used in {_stages(sorted(used[edge]))}, "
                f"the schedule says {_stages(expected[edge])}"
            )
    uses = sum(len(stages) for stages in used.values())
    reused = sum(len(stages) > 1 for stages in used.values())
    return f"{uses} uses, {reused} kernels re-used in a later stage"


def _no_kernel_unused(steps: StepGraph, block: BlockSteps) -> str:
    loop = steps.loop_graph(block.index)
    used = Counter(edge for step in block.steps for edge in step.weights)
    for source, target, data in loop.edges(data=True):
        if not {source, target} <= block.visit.keys():
            raise BrokenRule(f"W{source}_{target} is between layers that the block does not have")
        if not used[data["edge"]] or not data["stages"]:
            raise BrokenRule(f"W{source}_{target} is never used")
    if len(used) != loop.number_of_edges():
        raise BrokenRule(f"{len(used)} kernels are used, {loop.number_of_edges()} are in the loop")
    forward = sum(1 for source, target in loop.edges if _is_forward(block, source, target))
    return f"{forward} forward, {loop.number_of_edges() - forward} feedback"


def _is_forward(block: BlockSteps, source: int, target: int) -> bool:
    return block.visit[source] < block.visit[target]


def _versions(steps: StepGraph, block: BlockSteps) -> str:
    visits = list(_visits(block))
    found = [(step.stage, step.layer) for step in block.steps]
    if found != visits:
        raise BrokenRule(f"the updates are {found}, the schedule says {visits}")
    written = {Feature(block.index, 0, 0)}
    for step in block.steps:
        unwritten = [feature for feature in step.reads if feature not in written]
        if unwritten:
            raise BrokenRule(f"{_name(step)} reads {_names(unwritten)} before it is written")
        expected = _expected_reads(block, step.stage, step.layer)
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


def _feature_and_transit(steps: StepGraph, block: BlockSteps) -> str:
    layers = sorted(block.order)
    if isinstance(block.spec, CliqueBlock):
        feature_stage, transit_stage = block.spec.feature_stage, block.spec.transit_stage
        transit = [_version(block, layer, transit_stage) for layer in layers]
    else:
        feature_stage = transit_stage = 1
        transit = [_version(block, layer, 1) for layer in (0, *layers)]
    feature = [_version(block, layer, feature_stage) for layer in (0, *layers)]
    for what, found, expected in (
        ("block feature", block.feature, feature),
        ("transit", block.transit, transit),
    ):
        if list(found) != expected:
            raise BrokenRule(
                f"the {what} is {_names(found)}, the schedule gives {_names(expected)}"
            )
    return f"feature of stage {feature_stage}, transit of stage {transit_stage}"


def _acyclic(steps: StepGraph, block: BlockSteps) -> str:
    import networkx as nx

    unrolled: nx.DiGraph[Feature] = nx.DiGraph(
        (feature, step.writes) for step in block.steps for feature in step.reads
    )
    if not nx.is_directed_acyclic_graph(unrolled):
        cycle = " → ".join(str(source) for source, _ in nx.find_cycle(unrolled))
        raise BrokenRule(f"a cycle: {cycle}")
    return f"depth {len(list(nx.topological_generations(unrolled))) - 1}"


def _strongly_connected(steps: StepGraph, block: BlockSteps) -> str:
    import networkx as nx

    spec = block.spec
    if not isinstance(spec, CliqueBlock) or spec.stages < 2 or spec.updates_in(2) < spec.layers:
        return "not asked: no second stage that visits every layer"
    loop = steps.loop_graph(block.index)
    loop.remove_node(0)
    components = list(nx.strongly_connected_components(loop))
    if len(components) != 1:
        raise BrokenRule(f"the layers fall into {len(components)} components: {components}")
    return f"{spec.layers} layers, one component"


def _name(step: Step) -> str:
    return f"stage {step.stage} of X{step.layer}"


def _names(features: Iterable[Feature]) -> str:
    return "{" + ", ".join(str(feature) for feature in features) + "}"


def _stages(stages: list[int]) -> str:
    if not stages:
        return "no stage"
    return f"stage{'s' * (len(stages) > 1)} {', '.join(map(str, stages))}"


RULES: tuple[Rule, ...] = (
    Rule("one kernel per pair", _one_kernel_per_pair),
    Rule("stages of each kernel", _stages_of_each_kernel),
    Rule("no kernel unused", _no_kernel_unused),
    Rule("versions read", _versions),
    Rule("block feature and transit", _feature_and_transit),
    Rule("unrolled without a cycle", _acyclic),
    Rule("a clique", _strongly_connected),
)
