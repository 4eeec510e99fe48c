"""Pictures: what is in them, by parsing them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from itertools import combinations, pairwise
from math import comb, hypot
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pygraphviz
import pytest
from hypothesis import given, settings

from cliquegraph import NetworkSpec, lower, network_cost, unroll
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.draw.colors import kernel_colors
from cliquegraph.draw.dot import lay_out
from cliquegraph.draw.loop import MAX_ARROWS
from cliquegraph.draw.render import VIEWS, Request, comparison, render, scene_of
from cliquegraph.draw.scene import Look, Scene, Stroke, extent, sampled, titled
from cliquegraph.draw.scene import Path as Curve
from cliquegraph.draw.steps import MAX_USES
from cliquegraph.steps.graph import Edge, StepGraph
from tests.networks import EVERY_KEY, clique, network, networks, shipped

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def steps_of(spec: NetworkSpec) -> StepGraph:
    return unroll(spec)


def data(spec: NetworkSpec, view: str, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render(steps_of(spec), Request(view, **how), "json"))
    return found


# ---- the loop ----------------------------------------------------------------------------


@given(networks())
@settings(max_examples=25, deadline=None)
def test_the_loop_has_an_arrow_for_each_kernel(spec: NetworkSpec) -> None:
    for block in steps_of(spec).blocks:
        found = data(spec, "loop", block=block.index)
        arrows = {each["kernel"]: each for each in found["edges"] if "kernel" in each}
        assert arrows.keys() == {str(edge) for edge in block.edges}
        for edge, stages in block.edges.items():
            arrow = arrows[str(edge)]
            assert arrow["stages"] == sorted(set(stages))
            prefix = f"b{block.index}_x"
            assert (arrow["from"], arrow["to"]) == (
                f"{prefix}{edge.source}",
                f"{prefix}{edge.target}",
            )
            forward = block.visit[edge.source] < block.visit[edge.target]
            expected = "entry" if edge.source == 0 else "forward" if forward else "feedback"
            assert arrow["kind"] == expected


def test_kinds_of_arrows_differ_without_colour() -> None:
    graph = pygraphviz.AGraph(render(steps_of(clique(4)), Request("loop"), "dot").decode())
    looks: dict[tuple[str, str], set[str]] = defaultdict(set)
    found = data(clique(4), "loop")
    kinds = {each["id"]: each["kind"] for each in (*found["edges"], *found["legend"])}
    for edge in graph.edges():
        attributes = graph.get_edge(*edge).attr
        looks[attributes["style"], attributes["arrowhead"]].add(kinds[attributes["id"]])
    assert sorted(map(sorted, looks.values())) == [["entry"], ["feedback"], ["forward"]]


def test_the_legend_says_which_stage_uses_which() -> None:
    found = data(clique(5, last_stage_updates=2), "loop")
    notes = [each["label"] for each in found["legend"]]
    arrows = [each for each in found["edges"] if "kernel" in each]
    assert sum(int(note.split(": ")[1].split()[0]) for note in notes) == len(arrows)
    assert any(note.startswith("from X0: 5 kernels, stage I") for note in notes)


def test_one_stage_shows_its_kernels_alone() -> None:
    block = steps_of(clique(4)).block(1)
    for stage in (1, 2):
        found = data(clique(4), "loop", stage=stage)
        shown = {each["kernel"] for each in found["edges"] if "kernel" in each}
        used = {str(e) for step in block.steps if step.stage == stage for e in step.weights}
        assert shown == used


@pytest.mark.parametrize("layers", [2, 3, 4, 5, 6, 8])
def test_no_arrow_of_the_loop_runs_over_a_layer(layers: int) -> None:
    scene = scene_of(steps_of(clique(layers)), Request("loop"))
    places = {shape.key: shape for shape in scene.shapes if shape.look in (Look.LAYER, Look.INPUT)}
    for arrow in scene.arrows:
        if arrow.tail not in places:
            continue
        for key, shape in places.items():
            if key not in (arrow.tail, arrow.head):
                x, y = shape.at
                nearest = min(hypot(a - x, b - y) for a, b in sampled(arrow.path, 40))
                assert nearest > shape.size[0] / 2, (arrow.key, key)


def crosses(one: Curve, other: Curve) -> bool:
    def side(a: complex, b: complex, c: complex) -> float:
        return ((b - a).conjugate() * (c - a)).imag

    lines = [list(pairwise(complex(*at) for at in sampled(path, 40))) for path in (one, other)]
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for a, b in lines[0]
        for c, d in lines[1]
    )


@pytest.mark.parametrize("layers", [2, 3, 4, 5, 6])
def test_arrows_of_the_loop_cross_no_more_than_they_must(layers: int) -> None:
    block = steps_of(clique(layers)).block(1)
    scene = scene_of(steps_of(clique(layers)), Request("loop"))
    paths = {arrow.key: arrow.path for arrow in scene.arrows}
    found = [
        (one, other)
        for one, other in combinations(block.edges, 2)
        if crosses(paths[f"b1_{one}"], paths[f"b1_{other}"])
    ]
    # Any four layers on a circle have two ways across it that cross, there and back.
    assert len(found) == 4 * comb(layers, 4)
    for one, other in found:
        assert not {one.source, one.target} & {other.source, other.target}
        assert 0 not in (one.source, other.source)


@pytest.mark.parametrize("view", ["loop", "steps"])
@pytest.mark.parametrize("layers", [4, 5, 6])
def test_nothing_overlaps(view: str, layers: int) -> None:
    scene = scene_of(steps_of(clique(layers)), Request(view))
    assert not overlapping(scene)


def overlapping(scene: Scene) -> list[tuple[str, str]]:
    found = []
    for a, b in combinations((s for s in scene.shapes if s.label), 2):
        apart_x = abs(a.at[0] - b.at[0]) - (a.size[0] + b.size[0]) / 2
        apart_y = abs(a.at[1] - b.at[1]) - (a.size[1] + b.size[1]) / 2
        if apart_x < 0 and apart_y < 0:
            found.append((a.key, b.key))
    return found


def test_blocks_do_not_overlap_either() -> None:
    scene = scene_of(steps_of(shipped("cliquenet_s3")), Request("steps"))
    assert not overlapping(scene)
    assert len({shape.key for shape in scene.shapes}) == len(scene.shapes)


# ---- the steps ---------------------------------------------------------------------------


@given(networks())
@settings(max_examples=25, deadline=None)
def test_the_steps_have_a_box_for_each_use_of_a_kernel(spec: NetworkSpec) -> None:
    for block in steps_of(spec).blocks:
        found = data(spec, "steps", block=block.index)
        uses = {
            (each["writes"], each["reads"], each["kernel"], each["stage"])
            for each in found["nodes"]
            if each["kind"] == "kernel"
        }
        expected = {
            (str(step.writes), str(read), str(edge), step.stage)
            for step in block.steps
            for read, edge in zip(step.reads, step.weights, strict=True)
        }
        assert uses == expected
        into = [(e["from"], e["to"]) for e in found["edges"] if e["kind"] == "flow"]
        assert len(into) == len(expected)


def test_each_kernel_has_one_colour_and_no_other_has_it() -> None:
    found = data(clique(6), "steps")
    colours: dict[str, set[str]] = defaultdict(set)
    for each in found["nodes"]:
        if each["kind"] == "kernel":
            colours[each["kernel"]].add(each["colour"])
    assert all(len(each) == 1 for each in colours.values())
    assert len({colour for each in colours.values() for colour in each}) == len(colours) == 36


def channels(colour: str) -> list[float]:
    """Linear, of sRGB."""
    found = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in found]


def luminance(colour: str) -> float:
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels(colour), strict=True))


def lightness(colour: str) -> float:
    y = luminance(colour)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_colours_of_kernels_differ_and_white_is_read_on_them() -> None:
    block = steps_of(clique(20)).block(1)
    colours = list(kernel_colors(block.edges).values())
    assert len(set(colours[:150])) == 150
    for colour in colours:
        assert 1.05 / (luminance(colour) + 0.05) > 4.5  # WCAG AA
        assert lightness(colour) > 29  # not read as black


def test_kernels_beside_each_other_have_colours_far_apart() -> None:
    def apart(one: str, other: str) -> float:
        return sum((a - b) ** 2 for a, b in zip(channels(one), channels(other), strict=True)) ** 0.5

    for layers in (4, 5, 6):
        colours = kernel_colors(steps_of(clique(layers)).block(1).edges)
        for edge, colour in colours.items():
            for i, j in ((1, 0), (0, 1)):
                other = Edge(1, edge.source + i, edge.target + j)
                if other in colours:
                    assert apart(colour, colours[other]) > 0.08, (str(edge), str(other))


def test_an_update_points_at_what_it_replaces() -> None:
    found = data(clique(3), "steps")
    versions = {(e["from"], e["to"]) for e in found["edges"] if e["kind"] == Stroke.VERSION}
    assert versions == {(f"b1_X{i}@1", f"b1_X{i}@2") for i in (1, 2, 3)}


@pytest.mark.parametrize("name", list(EVERY_KEY))
def test_a_lane_leads_past_no_other_version(name: str) -> None:
    # A box in the lane of X1@2 must not be one that reads X1@1.
    for block in steps_of(EVERY_KEY[name]).blocks:
        scene = scene_of(steps_of(EVERY_KEY[name]), Request("steps", block.index))
        at = {shape.key: shape for shape in scene.shapes}
        features = [shape for shape in scene.shapes if shape.look in (Look.LAYER, Look.INPUT)]
        for use in (shape for shape in scene.shapes if shape.look is Look.KERNEL):
            before = [f for f in features if f.at[1] == use.at[1] and f.at[0] < use.at[0]]
            if before:
                nearest = max(before, key=lambda f: f.at[0])
                assert nearest.label == use.data["reads"]
            else:
                read = at[f"b{block.index}_{use.data['reads']}"]
                assert read.at[1] < use.at[1] < read.at[1] + 30


@pytest.mark.parametrize("update", ["alternate", "simultaneous"])
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_arrows_into_a_feature_lie_beside_each_other(update: str, order: str) -> None:
    spec = clique(6, update=update, order=order, stages=3)
    scene = scene_of(steps_of(spec), Request("steps"))
    at = {shape.key: shape for shape in scene.shapes}
    shafts = defaultdict(list)
    for arrow in scene.arrows:
        if arrow.stroke is Stroke.FLOW:
            (x, begin), (_, end) = arrow.path[0], arrow.path[-1]
            shafts[arrow.head, begin > end].append(x)
            box, feature = at[arrow.tail], at[arrow.head]
            assert abs(x - box.at[0]) < box.size[0] / 2
            assert abs(end - begin) > box.size[1] / 2 + 4  # it is seen below its box
            assert (begin > end) == (end > feature.at[1])
    for places in shafts.values():
        assert all(b - a > 4 for a, b in pairwise(sorted(places)))


@pytest.mark.parametrize("view", ["loop", "steps"])
def test_kernels_after_a_bottleneck_are_named(view: str) -> None:
    said = "V1 … V3: 3×3, one for each layer"
    assert said in scene_of(steps_of(clique(3, bottleneck=True)), Request(view)).title
    assert said not in scene_of(steps_of(clique(3)), Request(view)).title


def test_a_large_block_is_cut_and_says_so() -> None:
    spec = clique(32, 1, stages=8)
    found = data(spec, "steps")
    assert "the first " in found["title"]
    assert sum(1 for each in found["nodes"] if each["kind"] == "kernel") <= MAX_USES


# ---- the network -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cliquenet_s3", "cliquenet_k36_t12_ac", "densenet_k12_t96_bc"])
def test_the_network_has_its_sections_with_their_figures(name: str) -> None:
    spec = shipped(name)
    steps = steps_of(spec)
    cost = network_cost(lower(steps))
    found = data(spec, "network")
    parts = {each["section"]: each for each in found["nodes"] if each["kind"] == "part"}
    assert parts.keys() == {str(section) for section in cost.sections}
    for section, figures in cost.sections.items():
        part = parts[str(section)]
        assert (part["parameters"], part["macs"]) == (figures.parameters, figures.macs)
        assert f"{figures.parameters:,} parameters" in part["label"]
    edges = {(e["from"], e["to"]) for e in found["edges"]}
    assert ("images", "stem") in edges
    assert ("stem", "block1") in edges
    assert ("block1", "transition1") in edges
    assert ("transition1", "block2") in edges
    readouts = [part for part in parts if part.startswith("readout")]
    assert {(r, "classifier") for r in readouts} <= edges
    assert len(edges) == 1 + 2 * len(readouts) + len(parts) - len(readouts) - 2


def test_a_block_shows_its_feature_and_its_transit() -> None:
    spec = network({"layers": 4, "filters": 12}, {"layers": 2, "filters": 3})
    labels = {each["id"]: each["label"] for each in data(spec, "network")["nodes"]}
    assert "\nfeature 52×8×8\ntransit 48×8×8\n" in labels["block1"]  # the stem has 4 filters
    assert "transit" not in labels["block2"]
    dense = [{"kind": "dense", "layers": 2, "filters": 3}] * 2
    labels = {each["id"]: each["label"] for each in data(network(*dense), "network")["nodes"]}
    assert "feature and transit " in labels["block1"]


def test_attention_is_shown() -> None:
    labels = [each["label"] for each in data(shipped("cliquenet_s3"), "network")["nodes"]]
    assert sum("attention" in label for label in labels) == 3
    labels = [each["label"] for each in data(shipped("cliquenet_s3_star"), "network")["nodes"]]
    assert not any("attention" in label for label in labels)


# ---- formats -----------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", list(EVERY_KEY))
def test_every_network_is_drawn(name: str, view: str) -> None:
    steps = steps_of(EVERY_KEY[name])
    picture = ElementTree.fromstring(render(steps, Request(view), "svg"))  # noqa: S314  # ours
    ids = {each.get("id") for each in picture.iter(f"{SVG}g")}
    scene = scene_of(steps, Request(view))
    assert {shape.key for shape in scene.shapes} <= ids
    assert {arrow.key for arrow in scene.arrows} <= ids
    texts = {"".join(each.itertext()) for each in picture.iter(f"{SVG}text")}
    for shape in scene.shapes:
        assert set(shape.label.split("\n")) - {""} <= texts


@pytest.mark.parametrize("view", VIEWS)
def test_pictures_are_the_same_bytes_every_time(view: str) -> None:
    steps = steps_of(shipped("quickstart"))
    for suffix in ("svg", "dot", "json"):
        first = render(steps, Request(view), suffix)
        assert first == render(steps, Request(view), suffix)
    assert render(steps, Request(view), "png").startswith(b"\x89PNG")
    assert render(steps, Request(view), "pdf").startswith(b"%PDF")


def test_the_dot_is_the_graph() -> None:
    graph = pygraphviz.AGraph(render(steps_of(clique(4)), Request("steps"), "dot").decode())
    found = data(clique(4), "steps")
    assert set(graph.nodes()) == {each["id"] for each in found["nodes"]} | {"steps1_title"}
    assert len(graph.edges()) == len(found["edges"])


def test_names_can_not_become_markup() -> None:
    from dataclasses import replace as changed

    from cliquegraph.draw.dot import draw

    scene = scene_of(steps_of(clique(2)), Request("loop"))
    hostile = '<b>&"\\N\\L</b><script>alert(1)</script>'
    first, *others = scene.shapes
    scene = changed(scene, title=hostile, shapes=(changed(first, label=hostile), *others))
    picture = draw(titled(scene), "svg")
    root = ElementTree.fromstring(picture)  # noqa: S314  # ours
    assert not list(root.iter(f"{SVG}script"))
    assert [each for each in root.iter(f"{SVG}text") if each.text == hostile]


# ---- comparisons -------------------------------------------------------------------------


def changes(found: dict[str, Any], what: str) -> dict[str, str]:
    return {each["id"]: each["change"] for each in found[what] if "change" in each}


def test_a_network_compared_with_itself_has_no_mark() -> None:
    steps = steps_of(clique(4))
    for view in VIEWS:
        found = json.loads(render(steps, Request(view), "json", steps))
        assert not changes(found, "nodes")
        assert not changes(found, "edges")


def test_what_is_added_removed_and_changed_is_marked() -> None:
    one, two = steps_of(clique(3, stages=1)), steps_of(clique(3))
    found = json.loads(render(one, Request("loop"), "json", two))
    marks = changes(found, "edges")
    assert {key: what for key, what in marks.items() if "W2_1" in key} == {"b1_W2_1": "added"}
    assert marks["b1_W1_2"] == "changed"  # in stage II too
    back = json.loads(render(two, Request("loop"), "json", one))
    assert changes(back, "edges")["b1_W2_1"] == "removed"
    steps = json.loads(render(one, Request("steps"), "json", two))
    assert changes(steps, "nodes")["b1_X1@2"] == "added"
    assert changes(steps, "nodes")["b1_X1@1"] == "changed"  # no more in the block feature


def marked(one: NetworkSpec, two: NetworkSpec, view: str, **how: Any) -> dict[str, str]:
    found = json.loads(render(steps_of(one), Request(view, **how), "json", steps_of(two)))
    return changes(found, "nodes") | changes(found, "edges")


def test_a_lane_is_what_it_reads_and_not_where_it_is_drawn_from() -> None:
    for one, two, change in ((4, 5, "added"), (5, 4, "removed")):
        marks = marked(clique(one), clique(two), "steps")
        assert set(marks.values()) == {change}
        assert f"b1_X{4}@2_W1_4_lane" not in marks
        assert marks["b1_X5@1_W1_5_lane"] == change
        assert marks["b1_word_lane5"] == change  # words as everything
        assert marks["b1_word_step_X5@1"] == change


def test_what_was_removed_hides_no_line_that_is_left() -> None:
    scene = comparison(steps_of(clique(5)), steps_of(clique(4)), Request("steps"))
    lines: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    for arrow in scene.arrows:
        (x, y), (end, last) = arrow.path[0], arrow.path[-1]
        if arrow.stroke is Stroke.LANE and y == last:
            lines[arrow.change is not None].append((y, x, end))
    assert lines[True]
    for y, x, end in lines[True]:
        for other, begin, last in lines[False]:
            assert abs(y - other) > 3 or max(x, begin) >= min(end, last)


@pytest.mark.parametrize("view", ["loop", "steps"])
def test_what_only_one_network_has_was_added_or_removed(view: str) -> None:
    two = network({"layers": 3, "filters": 3})
    three = network({"layers": 3, "filters": 3}, {"layers": 2, "filters": 3})
    for one, other, change in ((two, three, "added"), (three, two, "removed")):
        marks = marked(one, other, view, block=2)
        assert set(marks.values()) == {change}
        with pytest.raises(UsageError, match="blocks 1 to 2, not 3"):
            comparison(steps_of(one), steps_of(other), Request(view, block=3))


def test_a_stage_that_one_network_lacks_was_added_or_removed() -> None:
    few, many = clique(3, stages=2, feature=1, transit=1), clique(3, stages=3, feature=1, transit=1)
    for one, other, change in ((few, many, "added"), (many, few, "removed")):
        marks = marked(one, other, "steps", stage=3)
        assert set(marks.values()) == {change}
        assert "b1_X1@2" not in marks  # both have it
        assert marks["b1_X1@3"] == change
        marks = marked(one, other, "loop", stage=3)
        assert set(marks) == {f"b1_W{i}_{j}" for i in (1, 2, 3) for j in (1, 2, 3) if i != j}
        assert set(marks.values()) == {change}
        with pytest.raises(UsageError, match="no stage 4; the stages are 1, 2, 3"):
            comparison(steps_of(one), steps_of(other), Request(stage=4))


def test_a_removed_arrow_is_seen_as_what_it_was() -> None:
    pair = [steps_of(clique(layers)) for layers in (5, 4)]
    texts = [
        render(pair[0], Request(), "dot").decode(),
        render(pair[0], Request(), "dot", pair[1]).decode(),
    ]
    looks = []
    for text in texts:
        graph = pygraphviz.AGraph(text)
        edges = [graph.get_edge(*edge).attr for edge in graph.edges()]
        looks.append({a["id"]: (a["style"], a["arrowhead"]) for a in edges})
    for edge in pair[0].block(1).edges:
        assert looks[0][f"b1_{edge}"] == looks[1][f"b1_{edge}"]


def test_a_sign_on_an_arrow_can_be_read() -> None:
    graph = pygraphviz.AGraph(
        render(steps_of(clique(5)), Request(), "dot", steps_of(clique(4))).decode()
    )
    signs = [graph.get_node(node).attr for node in graph.nodes() if node.endswith("_sign")]
    assert len(signs) == 9
    for sign in signs:
        assert (sign["label"], sign["fontcolor"], sign["style"]) == ("−", "white", "filled")
        assert 1.05 / (luminance(sign["fillcolor"]) + 0.05) > 4.5


@pytest.mark.parametrize("view", ["loop", "steps"])
def test_heads_end_outside_of_what_is_drawn(view: str) -> None:
    scene = comparison(steps_of(clique(3)), steps_of(clique(4, filters=9)), Request(view))
    graph = pygraphviz.AGraph(
        render(steps_of(clique(3)), Request(view), "dot", steps_of(clique(4, filters=9))).decode()
    )
    at = {shape.key: shape.at for shape in scene.shapes}
    for arrow in scene.arrows:
        if arrow.head in at and arrow.stroke is not Stroke.LANE and "legend" not in arrow.key:
            width, height = (float(graph.get_node(arrow.head).attr[k]) for k in ("width", "height"))
            x, y = (a - b for a, b in zip(arrow.path[-1], at[arrow.head], strict=True))
            assert hypot(x / (36 * width), y / (36 * height)) > 1.2, arrow.key


def test_the_legend_of_a_comparison_covers_both() -> None:
    one, two = clique(3, stages=1), clique(4, stages=3)
    found = json.loads(render(steps_of(one), Request(), "json", steps_of(two)))
    assert [each["label"] for each in found["legend"]] == [
        "from X0: 3 → 4 kernels, stage I",
        "forward: 3 → 0 kernels, stage I",
        "forward: 0 → 6 kernels, stages I, II, III",
        "feedback: 0 → 6 kernels, stages II, III",
    ]


def test_a_part_says_from_what_to_what() -> None:
    found = json.loads(render(steps_of(clique(4)), Request("network"), "json", steps_of(clique(5))))
    labels = {each["id"]: each["label"] for each in found["nodes"]}
    assert "\n4 → 5 layers × " in labels["block1"]
    assert "→" not in labels["stem"]
    more = json.loads(
        render(
            steps_of(network({"layers": 4, "filters": 3})),
            Request("network"),
            "json",
            steps_of(
                network(
                    {"layers": 4, "filters": 3, "bottleneck": True}, {"layers": 2, "filters": 3}
                )
            ),
        )
    )
    label = next(each["label"] for each in more["nodes"] if each["id"] == "block1")
    assert "\n− 2 stages\n+ 2 stages, bottleneck\n" in label
    assert "\n+ transit 12×8×8\n" in label
    assert label.splitlines()[-2].endswith(" parameters")
    scene = comparison(steps_of(clique(4)), steps_of(clique(5)), Request("network"))
    assert not overlapping(lay_out(scene))


@pytest.mark.parametrize("view", ["loop", "steps"])
def test_a_title_stands_above_the_middle(view: str) -> None:
    wide = network({"layers": 2, "filters": 3}, name="w" * 90)
    scene = comparison(steps_of(clique(2)), steps_of(wide), Request(view))
    left, _, right, _ = extent(scene)
    title = titled(scene).shapes[0]
    assert title.look is Look.TITLE
    assert title.at[0] == pytest.approx((left + right) / 2)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("one", ["abc", "dense", "schedule"])
@pytest.mark.parametrize("two", ["mixed", "one_stage"])
def test_any_two_networks_can_be_compared(one: str, two: str, view: str) -> None:
    pair = [steps_of(EVERY_KEY[name]) for name in (one, two)]
    scene = comparison(*pair, Request(view))
    keys = {shape.key for shape in scene.shapes}
    assert {end for arrow in scene.arrows for end in (arrow.tail, arrow.head)} <= keys
    assert render(pair[0], Request(view), "png", pair[1]).startswith(b"\x89PNG")


def test_what_was_removed_stands_between_what_is_left() -> None:
    pair = [steps_of(clique(layers)) for layers in (5, 4)]
    for one, two in (pair, pair[::-1]):
        scene = comparison(one, two, Request("loop"))
        at = {shape.key: shape.at for shape in scene.shapes}
        for arrow in scene.arrows:
            tail, head = at[arrow.tail], at[arrow.head]
            if "legend" not in arrow.key:
                assert hypot(arrow.path[0][0] - tail[0], arrow.path[0][1] - tail[1]) < 30
                assert hypot(arrow.path[-1][0] - head[0], arrow.path[-1][1] - head[1]) < 40
        assert not overlapping(scene)


@pytest.mark.parametrize("view", ["loop", "steps"])
@pytest.mark.parametrize(
    "change",
    [
        {"feature": 1},
        {"transit": 1},
        {"filters": 5},
        {"unit": "post_activation"},
        {"bottleneck": True},
        {"kernel": 1},
    ],
)
def test_networks_of_the_same_steps_that_differ_are_marked(
    view: str, change: dict[str, Any]
) -> None:
    pair = [steps_of(clique(3)), steps_of(clique(**{"layers": 3, **change}))]
    found = json.loads(render(pair[0], Request(view), "json", pair[1]))
    assert set(changes(found, "nodes").values()) == {"changed"}


def test_a_stage_that_some_blocks_lack_draws_the_others() -> None:
    steps = steps_of(network({"layers": 2, "filters": 3, "stages": 1}, {"layers": 3, "filters": 3}))
    for view in ("loop", "steps"):
        scene = scene_of(steps, Request(view, stage=2))
        assert all(shape.key.startswith("b2_") for shape in scene.shapes)
        assert render(steps, Request(view, stage=2), "png").startswith(b"\x89PNG")


def test_a_legend_is_not_marked() -> None:
    found = json.loads(render(steps_of(clique(3)), Request(), "json", steps_of(clique(2))))
    marked = {each["id"] for each in found["edges"] if "change" in each}
    assert marked
    assert not any("legend" in each for each in marked)


FOUR = {"layers": 4, "filters": 3}


@pytest.mark.parametrize("view", ["loop", "steps"])
@pytest.mark.parametrize(
    "blocks",
    [
        [{**FOUR, "layers": 2}],
        [{**FOUR, "kind": "dense"}],
        [{**FOUR, "order": "descending"}],
        [{**FOUR, "stages": 4}],
        [FOUR, {**FOUR, "layers": 6}],
        [{**FOUR, "layers": 6}, FOUR, FOUR],
    ],
)
def test_nothing_overlaps_in_a_comparison(view: str, blocks: list[dict[str, Any]]) -> None:
    one, two = steps_of(network(FOUR)), steps_of(network(*blocks))
    for pair in ((one, two), (two, one)):
        scene = comparison(*pair, Request(view))
        assert any(item.change for item in scene.arrows)
        assert not overlapping(scene)


def test_a_comparison_says_that_nothing_differs() -> None:
    steps = steps_of(clique(2))
    assert comparison(steps, steps, Request()).title.endswith("no difference in this view")
    wider = steps_of(clique(2, filters=7))
    title = comparison(steps, wider, Request()).title
    assert "changed" in title
    assert "added" not in title


def test_a_loop_of_too_many_kernels_says_what_it_leaves_out() -> None:
    block = {"layers": 60, "filters": 1}
    scene = scene_of(steps_of(network(block)), Request("loop"))
    kernels = [arrow for arrow in scene.arrows if "kernel" in arrow.data]
    assert len(kernels) == MAX_ARROWS
    assert scene.title.endswith("; the first 2,500 of 3,600 reads")


def test_the_steps_of_one_stage_keep_their_numbers() -> None:
    scene = scene_of(steps_of(clique(4)), Request("steps", stage=2))
    numbers = {shape.label for shape in scene.shapes if shape.key.startswith("b1_word_step_")}
    assert numbers == {"5", "6", "7", "8"}


@pytest.mark.parametrize("layers", [4, 5, 6])
def test_heads_at_a_layer_of_the_loop_stand_apart(layers: int) -> None:
    scene = scene_of(steps_of(clique(layers)), Request("loop"))
    heads = defaultdict(list)
    for arrow in scene.arrows:
        if "kernel" in arrow.data:
            heads[arrow.head].append(complex(*arrow.path[-1]))
    for points in heads.values():
        assert min(abs(a - b) for a, b in combinations(points, 2)) > 3


def test_a_title_stands_above_every_arrow() -> None:
    scene = titled(scene_of(steps_of(clique(4)), Request("loop")))
    title = next(shape for shape in scene.shapes if shape.look is Look.TITLE)
    highest = max(y for a in scene.arrows for _, y in sampled(a.path, 40))
    assert title.at[1] - title.size[1] / 2 > highest


def test_a_block_more_is_marked_in_the_network() -> None:
    one = steps_of(network({"layers": 2, "filters": 3}))
    two = steps_of(network({"layers": 2, "filters": 3}, {"layers": 3, "filters": 3}))
    marks = changes(json.loads(render(one, Request("network"), "json", two)), "nodes")
    assert marks["block2"] == marks["readout2"] == marks["transition1"] == "added"
    assert marks["classifier"] == "changed"
    assert marks["block1"] == "changed"  # it hands on a transit now
    assert "stem" not in marks


# ---- the command -------------------------------------------------------------------------


def run(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cliquegraph", "render", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'backends'}"},
        capture_output=True,
    )


QUICKSTART = "specs/quickstart.yaml"


def test_the_format_is_the_files(tmp_path: Path) -> None:
    for suffix, begin in {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "JSON": b"{"}.items():
        file = tmp_path / f"x.{suffix}"
        done = run(QUICKSTART, "-o", file)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode() == f"wrote {file}\n"
        assert file.read_bytes().startswith(begin)


def test_a_format_is_named_in_any_case() -> None:
    assert run(QUICKSTART, "--format", "SVG").stdout.startswith(b"<?xml")


def test_help_names_the_other_spec_once() -> None:
    assert b"[[SPEC]]" not in run("--help").stdout


def test_tooltips_are_names_and_not_keys() -> None:
    def told(view: str, other: StepGraph | None = None) -> dict[str, str]:
        picture = ElementTree.fromstring(  # noqa: S314  # ours
            render(steps_of(clique(3)), Request(view), "svg", other)
        )
        groups = {g.get("id") or "": g.find(f"{SVG}title") for g in picture.iter(f"{SVG}g")}
        return {key: title.text or "" for key, title in groups.items() if title is not None}

    loop, steps, parts = map(told, VIEWS)
    assert loop["b1_W1_2"] == "W1_2: X1 → X2"
    assert loop["b1_x2"] == "X2"
    assert steps["b1_X2@1_W1_2"] == steps["b1_X2@1_W1_2_into"] == "W1_2: X1@1 → X2@1"
    assert steps["b1_X1@2_version"] == "X1@1 → X1@2"
    assert parts["stem_block1"].startswith("stem, ")
    for titles in (loop, steps, parts, told("loop", steps_of(clique(4)))):
        assert not any("b1_" in title or "->" in title for title in titles.values())


def test_a_dash_prints() -> None:
    done = run(QUICKSTART, "-o", "-", "--format", "dot", "--view", "network")
    assert done.stdout.startswith(b"digraph network {")
    assert run(QUICKSTART).stdout.startswith(b"<?xml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "x.gif"), "a picture is svg, png, pdf, dot, json, html, not 'gif'"),
        (("-o", "x"), "html: set it by the file's suffix or --format"),
        (("--view", "cube"), "--view is loop, steps, network, not 'cube'"),
        (("--block", "9"), "has blocks 1 to 2, not 9"),
        (("--stage", "7"), "there is no stage 7; the stages are 1, 2"),
        (("--view", "network", "--block", "1"), "are for the views loop and steps"),
        (("--diff",), "--diff compares two specs"),
        ((QUICKSTART,), "--diff compares two specs"),
    ],
)
def test_what_can_not_be_drawn_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = run(QUICKSTART, *words)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error[usage]: ")
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


# ---- the README's pictures ---------------------------------------------------------------

PICTURES = {
    "loop.svg": ("cliquenet_k64_t15", Request("loop", block=1)),
    "steps.svg": ("cliquenet_k64_t15", Request("steps", block=1)),
    "network.svg": ("cliquenet_s3", Request("network")),
}


@pytest.mark.parametrize("name", list(PICTURES))
def test_the_committed_pictures_are_what_comes_out(name: str) -> None:
    spec, request = PICTURES[name]
    committed = (ROOT / "docs" / "pictures" / name).read_bytes()
    assert committed == render(steps_of(shipped(spec)), request, "svg")


@pytest.mark.parametrize("view", VIEWS)
def test_the_fonts_of_a_machine_make_no_difference(view: str, tmp_path: Path) -> None:
    bare = tmp_path / "fonts.conf"
    bare.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">'
        f"<fontconfig><dir>{tmp_path}</dir><cachedir>{tmp_path}</cachedir></fontconfig>"
    )
    words = [sys.executable, "-m", "cliquegraph", "render", QUICKSTART, "--view", view]
    pictures = {
        subprocess.run(words, cwd=ROOT, env=env, capture_output=True, check=True).stdout
        for env in ({**os.environ}, {**os.environ, "FONTCONFIG_FILE": str(bare)})
    }
    assert len(pictures) == 1


@pytest.mark.parametrize("view", VIEWS)
def test_data_has_every_item_once_and_no_legend(view: str) -> None:
    found = data(shipped("cliquenet_s3"), view)
    items = [each for what in ("nodes", "edges") for each in found[what]]
    ids = [each["id"] for each in (*items, *found["legend"])]
    assert len(ids) == len(set(ids))
    assert not any("legend" in each["id"] for each in items)
    assert all(each["label"] for each in (*found["nodes"], *found["legend"]))
    assert bool(found["legend"]) == (view == "loop")
    assert found["title"].startswith("cliquenet_s3")
    ends = {each[end] for each in found["edges"] for end in ("from", "to")}
    assert ends <= {each["id"] for each in found["nodes"]}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No drawing library is installed."""
    from cliquegraph.draw import needs

    monkeypatch.setattr(needs, "find_spec", lambda name: None)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "html"])
def test_a_library_that_is_missing_is_named(suffix: str) -> None:
    with pytest.raises(UsageError, match="pictures need pygraphviz: pip install pygraphviz"):
        render(steps_of(clique(2)), Request(), suffix)


@pytest.mark.parametrize("view", ["loop", "steps", "network"])
def test_json_and_dot_need_no_library(view: str, request: pytest.FixtureRequest) -> None:
    steps = steps_of(clique(2))
    drawn = {suffix: render(steps, Request(view), suffix) for suffix in ("json", "dot")}
    request.getfixturevalue("bare")
    assert render(steps, Request(view), "json") == drawn["json"]
    dot = render(steps, Request(view), "dot")
    if view != "network":
        assert dot == drawn["dot"]
        return
    assert b"pos=" not in dot and b"labelloc=t" in dot  # Graphviz will place it
    graph, placed = (pygraphviz.AGraph(string=text.decode()) for text in (dot, drawn["dot"]))
    assert set(graph.edges()) == set(placed.edges())
    graph.layout(prog="dot")
