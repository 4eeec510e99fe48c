"""Conversions lose nothing, and refuse what they can't do."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.ir.storage import from_storage
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph.weights import convert_weights, formats, read_weights, write_weights
from cliquegraph.weights.layout import canonical
from cliquegraph.weights.source import TensorInfo
from cliquegraph.weights.tensors import NewTensor, open_tensors, write_tensors
from cliquegraph.weights.transfer import COUNTERS
from tests.networks import EVERY_KEY, clique, network, networks, shipped
from tests.weights.files import canonical_file, contents, sampled

PLACES = [("canonical", DEFAULT_LEVEL), *((b, n) for b in ("torch", "flax") for n in LEVELS)]
DTYPES = ("float16", "bfloat16", "float32", "float64")


def chain(spec: NetworkSpec, start: Path, places: Any, folder: Path) -> Path:
    """The file at the end of a chain of conversions."""
    for number, (to, level) in enumerate(places):
        target = folder / f"{number}.safetensors"
        convert_weights(spec, start, target, to=to, level=level)
        start = target
    return start


@given(
    networks(),
    st.sampled_from(PLACES),
    st.lists(st.sampled_from(PLACES), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
)
@settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
def test_a_chain_that_returns_to_its_start_returns_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, spec: NetworkSpec, start: Any, by: Any, dtype: str
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    first = chain(spec, canonical_file(folder / "c.safetensors", spec, dtype), [start], folder)
    first = first.rename(folder / "first.safetensors")
    last = chain(spec, first, [*by, start], folder)
    assert last.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("name", list(EVERY_KEY))
@pytest.mark.parametrize("place", PLACES)
def test_every_key_of_the_language_goes_there_and_back(
    tmp_path: Path, name: str, place: Any
) -> None:
    spec = EVERY_KEY[name]
    first = canonical_file(tmp_path / "c.safetensors", spec)
    last = chain(spec, first, [place, ("canonical", 1)], tmp_path)
    assert contents(last) == contents(first)


def test_the_formats_are_told_apart_without_being_named(tmp_path: Path) -> None:
    spec = EVERY_KEY["abc"]
    first = canonical_file(tmp_path / "c.safetensors", spec)
    for to, level in PLACES:
        target = tmp_path / f"{to}{level}.safetensors"
        convert_weights(spec, first, target, to=to, level=level)
        # As somebody else's tool would have saved it: without our metadata.
        bare = tmp_path / "bare.safetensors"
        with open_tensors(target) as source:
            held = {name: source.read(name) for name in source.infos}
            write_tensors(bare, [made(name, array) for name, array in held.items()], {})
        back = tmp_path / "back.safetensors"
        found = convert_weights(spec, bare, back, to="canonical")
        assert found.source.name == to
        assert contents(back) == contents(first)


def made(name: str, array: Any) -> NewTensor:
    return NewTensor(name, TensorInfo(array.dtype.name, array.shape), lambda: array)


def with_tensors(path: Path, target: Path, changes: dict[str, Any], **metadata: str) -> Path:
    """A file like another; a change to None leaves a tensor out."""
    with open_tensors(path) as source:
        held = {name: source.read(name) for name in source.infos} | changes
        kept = {name: array for name, array in held.items() if array is not None}
        made_of = [made(name, array) for name, array in kept.items()]
        write_tensors(target, made_of, {**source.metadata, **metadata})
    return target


# ---- strict ------------------------------------------------------------------------------


def test_every_fault_is_listed_by_both_names(tmp_path: Path) -> None:
    spec = clique(layers=4)
    there = tmp_path / "t.safetensors"
    convert_weights(spec, canonical_file(tmp_path / "c", spec), there, to="torch")
    broken = with_tensors(
        there,
        tmp_path / "broken.safetensors",
        {
            "block1.w2": None,
            "head.weight": np.zeros(3, np.float32),
            "classifier.bias": np.zeros(9, np.float32),
        },
    )
    with pytest.raises(WeightsError) as caught:
        read_weights(spec, broken, "torch")
    said = str(caught.value)
    assert f"{broken} does not fit small (torch -O0)" in said
    assert "1 missing: block1.w2 (block1.w0_2.weight and 3 more)" in said
    assert "1 unexpected: head.weight" in said
    assert "1 of another shape: classifier.bias is (9,), must be" in said


def test_long_lists_are_cut(tmp_path: Path) -> None:
    spec = shipped("cliquenet_k36_t12")
    extra = {f"more{i}": np.zeros(1, np.float32) for i in range(25)}
    broken = with_tensors(canonical_file(tmp_path / "c", spec), tmp_path / "b", extra)
    with pytest.raises(WeightsError, match="25 unexpected") as caught:
        read_weights(spec, broken)
    assert str(caught.value).count("more") == 11
    assert "and 15 more" in str(caught.value)


@pytest.mark.parametrize("level", [1, 2])
def test_statistics_that_readers_disagree_about_are_refused_where_they_are_one(
    tmp_path: Path, level: int
) -> None:
    spec = clique()
    tensors = sampled(spec)
    name = "block1.x3.s1.norm.mean"
    tensors[name] = tensors[name] + np.float32(0.25)
    write_weights(spec, tensors, tmp_path / "c")
    with pytest.raises(WeightsError, match=r"differ by 2\.5e-01; -O0 stores each") as caught:
        convert_weights(spec, tmp_path / "c", tmp_path / "t", to="torch", level=level)
    assert name in str(caught.value)
    assert not (tmp_path / "t").exists()
    convert_weights(spec, tmp_path / "c", tmp_path / "t", to="torch", level=0)
    convert_weights(spec, tmp_path / "t", tmp_path / "back", to="canonical")
    assert contents(tmp_path / "back") == contents(tmp_path / "c")


def test_tensors_of_several_types_that_one_is_to_hold_are_refused(tmp_path: Path) -> None:
    spec = clique()
    first = canonical_file(tmp_path / "c", spec)
    wide = read_weights(spec, first)["block1.w0_2.weight"].astype(np.float64)
    mixed = with_tensors(first, tmp_path / "m", {"block1.w0_2.weight": wide})
    with pytest.raises(WeightsError, match=r"is float64 and .* is float32, but one tensor"):
        convert_weights(spec, mixed, tmp_path / "t", to="torch")
    assert not (tmp_path / "t").exists()
    convert_weights(spec, mixed, tmp_path / "c2", to="canonical")  # there each is its own
    assert contents(tmp_path / "c2") == contents(mixed)


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool"])
def test_weights_that_are_no_floating_point_are_refused(tmp_path: Path, dtype: str) -> None:
    spec = clique()
    first = canonical_file(tmp_path / "c", spec)
    array = np.zeros(read_weights(spec, first)["classifier.bias"].shape, dtype)
    wrong = with_tensors(first, tmp_path / "w", {"classifier.bias": array})
    with pytest.raises(WeightsError, match=rf"classifier.bias is {dtype}; weights are float16"):
        read_weights(spec, wrong)


def test_nan_and_infinity_are_kept_and_told(tmp_path: Path) -> None:
    spec = clique()
    tensors = sampled(spec)
    tensors["stem.conv.weight"][0, 0, 0, 0] = np.nan
    for name in tensors:  # every reader of the block's input
        if name.startswith("readout1.") and name.endswith("norm.bias"):
            tensors[name][0] = np.inf
    write_weights(spec, tensors, tmp_path / "c")
    done = convert_weights(spec, tmp_path / "c", tmp_path / "f", to="flax")
    assert done.not_finite == ("stem.conv", "readout1.norm.bias")
    convert_weights(spec, tmp_path / "f", tmp_path / "back", to="canonical")
    assert contents(tmp_path / "back") == contents(tmp_path / "c")


# ---- another network ---------------------------------------------------------------------


def test_weights_of_another_network_are_refused_with_what_differs(tmp_path: Path) -> None:
    # The same tensors, another function: only the digest tells them apart.
    written, asked = clique(layers=4), clique(layers=4, update="simultaneous")
    first = canonical_file(tmp_path / "c", written)
    with pytest.raises(WeightsError) as caught:
        convert_weights(asked, first, tmp_path / "t", to="torch")
    assert 'blocks.0.update: "alternate" in the file, "simultaneous" in the spec' in str(
        caught.value
    )
    assert not (tmp_path / "t").exists()
    convert_weights(asked, first, tmp_path / "t", to="torch", level=0, ignore_digest=True)


def test_a_name_and_what_is_expected_do_not_make_another_network(tmp_path: Path) -> None:
    first = canonical_file(tmp_path / "c", clique())
    renamed = clique().model_copy(update={"name": "other"})
    assert read_weights(renamed, first).keys() == read_weights(clique(), first).keys()


def test_a_digest_without_its_spec_is_refused_too(tmp_path: Path) -> None:
    first = canonical_file(tmp_path / "c", clique())
    metadata = {"cliquegraph.digest": "0" * 64, "cliquegraph.spec": "}{"}
    other = with_tensors(first, tmp_path / "o", {}, **metadata)
    with pytest.raises(WeightsError, match="the sha256 of its op graph is 000000000000…"):
        read_weights(clique(), other)


def test_another_level_than_the_file_is_of_is_named(tmp_path: Path) -> None:
    spec = clique()
    there = tmp_path / "t"
    convert_weights(spec, canonical_file(tmp_path / "c", spec), there, to="torch", level=0)
    with pytest.raises(WeightsError, match="not for a model compiled with -O1; it fits -O0"):
        read_weights(spec, there, "torch", 1)
    with pytest.raises(UsageError, match="there is no level -O7"):
        read_weights(spec, there, "torch", 7)


def test_another_format_than_the_file_says_is_refused(tmp_path: Path) -> None:
    first = canonical_file(tmp_path / "c", clique())
    with pytest.raises(WeightsError, match="is declared to be in format canonical, not flax"):
        read_weights(clique(), first, "flax")


def test_a_file_of_nothing_known_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", [made("a", np.zeros(2))], {})
    with pytest.raises(WeightsError, match="holds no tensors of small in any format"):
        read_weights(clique(), tmp_path / "x")


def test_the_authors_format_is_not_written(tmp_path: Path) -> None:
    first = canonical_file(tmp_path / "c", clique())
    with pytest.raises(UsageError, match="can only be read"):
        convert_weights(clique(), first, tmp_path / "o", to="official")


# ---- batch counters ----------------------------------------------------------------------


def test_batch_counters_survive_formats_that_have_no_place_for_them(tmp_path: Path) -> None:
    spec = EVERY_KEY["abc"]
    first = tmp_path / "t.safetensors"
    convert_weights(spec, canonical_file(tmp_path / "c", spec), first, to="torch", level=0)
    counters = formats(spec, "torch", 0)[0].counters
    assert len(counters) > 10
    counts = {name: np.asarray(i + 3, np.int64) for i, name in enumerate(counters)}
    counted = with_tensors(first, tmp_path / "counted.safetensors", counts)
    places = [("torch", 1), ("flax", 1), ("canonical", 1), ("torch", 0)]
    assert contents(chain(spec, counted, places, tmp_path)) == contents(counted)


def test_a_file_may_lack_them(tmp_path: Path) -> None:
    spec = clique()
    first = tmp_path / "t.safetensors"
    convert_weights(spec, canonical_file(tmp_path / "c", spec), first, to="torch", level=0)
    without = dict.fromkeys(formats(spec, "torch", 0)[0].counters)
    bare = with_tensors(first, tmp_path / "bare.safetensors", without)
    assert read_weights(spec, bare).keys() == read_weights(spec, first).keys()


@pytest.mark.parametrize("counter", [np.zeros((), np.float32), np.zeros(2, np.int64)])
def test_a_counter_that_is_none_is_refused(tmp_path: Path, counter: Any) -> None:
    spec = clique()
    first = tmp_path / "t.safetensors"
    convert_weights(spec, canonical_file(tmp_path / "c", spec), first, to="torch", level=0)
    name = next(iter(formats(spec, "torch", 0)[0].counters))
    wrong = with_tensors(first, tmp_path / "w.safetensors", {name: counter})
    with pytest.raises(WeightsError, match=r"must be one integer"):
        convert_weights(spec, wrong, tmp_path / "x", to="canonical")


def test_damaged_metadata_are_refused(tmp_path: Path) -> None:
    first = canonical_file(tmp_path / "c", clique())
    deep = "[" * 100_000
    not_counts = ("b", None, float("inf"), 1e99, True, 2.0, -1, 2**63)
    counters = (json.dumps({"a": each}) for each in not_counts)
    for text in ("}{", "[1]", deep, *counters):
        wrong = with_tensors(first, tmp_path / "w", {}, **{COUNTERS: text})
        with pytest.raises(WeightsError, match=r"metadata entry .* is damaged"):
            convert_weights(clique(), wrong, tmp_path / "x", to="torch")


@pytest.mark.parametrize("count", [0, 1, 2**63 - 1])
def test_what_an_integer_of_64_bits_holds_is_a_count(tmp_path: Path, count: int) -> None:
    spec = clique()
    first = canonical_file(tmp_path / "c", spec)
    name, slot = next(iter(formats(spec, "torch", 0)[0].counters.items()))
    counted = with_tensors(first, tmp_path / "w", {}, **{COUNTERS: json.dumps({slot: count})})
    convert_weights(spec, counted, tmp_path / "t", to="torch", level=0)
    with open_tensors(tmp_path / "t") as source:
        assert source.read(name).item() == count


# ---- files -------------------------------------------------------------------------------


def test_what_is_written_is_what_the_library_reads(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    tensors = sampled(clique(), "bfloat16")
    write_weights(clique(), tensors, tmp_path / "c.safetensors")
    found = load_file(tmp_path / "c.safetensors")
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], array) for name, array in tensors.items())


def test_the_metadata_say_what_the_file_is(tmp_path: Path) -> None:
    spec = clique()
    first = canonical_file(tmp_path / "c", spec)
    convert_weights(spec, first, tmp_path / "t", to="torch", level=2)
    with open_tensors(tmp_path / "t") as source:
        metadata = source.metadata
    assert metadata["cliquegraph.format"] == "torch"
    assert metadata["cliquegraph.option"] == "-O2"
    assert metadata["cliquegraph.digest"] == cliquegraph.Compilation(spec).lowered.digest()
    assert cliquegraph.loads(metadata["cliquegraph.spec"]) == spec
    assert json.loads(metadata.get(COUNTERS, "{}")) == {}


def damaged(data: bytes) -> dict[str, bytes]:
    """Damages that a transfer or a stranger does."""
    header = int.from_bytes(data[:8], "little")
    return {
        "empty": b"",
        "text": b"cliquegraph: 1\nname: x\n",
        "a truncated header": data[: 8 + header // 2],
        "truncated": data[:-1],
        "half": data[: len(data) // 2],
        "longer": data + b"\0",
        "a header of 2^60 bytes": (2**60).to_bytes(8, "little") + data[8:],
        "a header of 90 MB": (90 * 2**20).to_bytes(8, "little") + data[8:],
        "absurd sizes": data.replace(b'"shape":[', b'"shape":[99999999999,', 1),
        "offsets elsewhere": data.replace(b'"data_offsets":[', b'"data_offsets":[1', 1),
        "no JSON": data[:8] + data[8 : 8 + header].replace(b"{", b"(") + data[8 + header :],
    }


@pytest.mark.parametrize("damage", list(damaged(b"\0" * 64)))
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    spec = clique()
    first = canonical_file(tmp_path / "c.safetensors", spec)
    (tmp_path / "bad").write_bytes(damaged(first.read_bytes())[damage])
    with pytest.raises(WeightsError, match="bad is not a safetensors file, or is damaged"):
        convert_weights(spec, tmp_path / "bad", tmp_path / "out", to="torch")
    assert not (tmp_path / "out").exists()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for name, why in (("none", "does not exist"), ("", "regular file"), ("pipe", "regular file")):
        with pytest.raises(WeightsError, match=why):
            read_weights(clique(), tmp_path / name)


def test_a_target_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    spec = clique()
    tensors = sampled(spec)
    tensors["block1.x3.s1.norm.mean"] = tensors["block1.x3.s1.norm.mean"] + np.float32(1)
    write_weights(spec, tensors, tmp_path / "c")
    (tmp_path / "t").write_text("mine")
    with pytest.raises(WeightsError, match="running statistics"):
        convert_weights(spec, tmp_path / "c", tmp_path / "t", to="torch", level=1)
    assert (tmp_path / "t").read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c", "t"]


def test_a_file_can_be_converted_in_its_place(tmp_path: Path) -> None:
    spec = clique()
    file = canonical_file(tmp_path / "c", spec)
    before = contents(file)
    convert_weights(spec, file, file, to="flax")
    convert_weights(spec, file, file, to="canonical")
    assert contents(file) == before


@pytest.mark.parametrize(("to", "level"), [("torch", 1), ("flax", 0), ("canonical", None)])
def test_tensors_are_converted_one_by_one(tmp_path: Path, to: str, level: int | None) -> None:
    spec = shipped("cliquenet_s3")
    file = canonical_file(tmp_path / "c", spec)
    if to == "canonical":
        convert_weights(spec, file, file, to="flax")
    tracemalloc.start()
    try:
        done = convert_weights(spec, file, tmp_path / "t", to=to, level=level)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < done.size / 2  # the graphs are in it too


# ---- folded ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_folded_weights_are_those_of_fold(tmp_path: Path, backend: str) -> None:
    spec = network({"layers": 3, "filters": 3, "bottleneck": True}, {"layers": 2, "filters": 2})
    file = canonical_file(tmp_path / "c", spec, "float64")
    done = convert_weights(spec, file, tmp_path / "i", to=backend, inference=True)
    assert done.target.option == "--inference"
    folded = cliquegraph.fold(spec, read_weights(spec, file))
    with open_tensors(tmp_path / "i") as source:
        found = from_storage(
            {
                param: canonical(done.target.layout, param, source.read(name))
                for name, param in done.target.params.items()
            }
        )
    assert found.keys() == folded.keys()
    assert all(np.array_equal(found[name], array) for name, array in folded.items())
    with pytest.raises(WeightsError, match="can't be undone"):
        read_weights(spec, tmp_path / "i")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"to": "canonical", "inference": True}, "--inference is for backends' formats"),
        ({"to": "torch", "inference": True, "level": 1}, "remove -O"),
        ({"to": "canonical", "level": 9}, "there is no level -O9"),
    ],
)
def test_what_can_not_be_obeyed_is_refused(tmp_path: Path, how: Any, said: str) -> None:
    file = canonical_file(tmp_path / "c", clique())
    with pytest.raises(UsageError, match=said):
        convert_weights(clique(), file, tmp_path / "x", **how)
    assert not (tmp_path / "x").exists()


def test_the_level_of_the_source_can_be_asked_for(tmp_path: Path) -> None:
    spec = clique()
    first = canonical_file(tmp_path / "c", spec)
    convert_weights(spec, first, tmp_path / "t", to="torch", level=2)
    done = convert_weights(spec, tmp_path / "t", tmp_path / "b", to="flax", level=0, source_level=2)
    assert (done.source.option, done.target.option) == ("-O2", "-O0")
    with pytest.raises(WeightsError, match="not for a model compiled with -O0"):
        convert_weights(spec, tmp_path / "t", tmp_path / "x", to="canonical", source_level=0)


# ---- tensors in memory -------------------------------------------------------------------


@pytest.mark.parametrize("to", ["canonical", "torch"])
def test_another_byte_order_is_turned(tmp_path: Path, to: str) -> None:
    spec = clique()
    swapped = {n: a.astype(a.dtype.newbyteorder(">")) for n, a in sampled(spec).items()}
    write_weights(spec, swapped, tmp_path / "x", to)
    write_weights(spec, sampled(spec), tmp_path / "y", to)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.astype(np.int32), "classifier.bias is int32; weights are float16"),
        (lambda a: a.astype(np.complex64), "classifier.bias is complex64; weights are"),
        (lambda a: a.tolist(), r"classifier.bias is a builtins\.list, but must be a NumPy array"),
    ],
)
def test_what_is_no_weight_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    spec = clique()
    tensors: dict[str, Any] = sampled(spec)
    tensors["classifier.bias"] = change(tensors["classifier.bias"])
    with pytest.raises(WeightsError, match=said):
        write_weights(spec, tensors, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_pieces_of_two_types_are_refused_on_every_way(tmp_path: Path) -> None:
    spec = clique()
    there = tmp_path / "t"
    convert_weights(spec, canonical_file(tmp_path / "c", spec), there, to="torch", level=1)
    with open_tensors(there) as source:
        half = source.read("stem.moments.running_mean").astype(np.float16)
    mixed = with_tensors(there, tmp_path / "m", {"stem.moments.running_mean": half})
    with pytest.raises(WeightsError, match="one tensor must hold both"):
        read_weights(spec, mixed)


def test_small_variances_that_differ_are_not_taken_for_one(tmp_path: Path) -> None:
    spec = clique()
    tensors = sampled(spec, "float64")
    for name, array in tensors.items():
        if name.endswith(".var"):
            array[:] = 1e-6
    tensors["block1.x3.s1.norm.var"][:] = 9e-6
    write_weights(spec, tensors, tmp_path / "c")
    with pytest.raises(WeightsError, match=r"block1\.x3\.s1\.norm\.var"):
        convert_weights(spec, tmp_path / "c", tmp_path / "t", to="torch", level=1)


def test_a_link_goes_on_leading_to_what_is_written(tmp_path: Path) -> None:
    spec = clique()
    first = canonical_file(tmp_path / "c", spec)
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    convert_weights(spec, first, tmp_path / "link", to="canonical")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == contents(first)


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    first = canonical_file(tmp_path / "c", clique())
    for name, why in (("pipe", "not a regular file"), ("", "a directory")):
        with pytest.raises(UsageError, match=why):
            convert_weights(clique(), first, tmp_path / name, to="canonical")
    assert (tmp_path / "pipe").is_fifo()
