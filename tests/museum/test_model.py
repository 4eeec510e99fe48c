"""Museum: sizes, flags, memory and statistics of a model."""

from __future__ import annotations

import pytest

import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import SpecError, VerificationError
from tests.museum.exhibits import exhibit, verify_says
from tests.networks import clique, shipped
from tests.tampered import verify_tampered


@exhibit(
    "`verify`",
    "torch, evaluation: the first value that differs is z of readout1, by … (readout1)",
)
def test_a_pool_of_a_fixed_size(monkeypatch: pytest.MonkeyPatch) -> str:
    """Pool sizes are fixed for images of 224 pixels: on others the global pool leaves pixels
    out.

    Seen: existing implementations.
    """
    fixed = "F.avg_pool2d(x, 7).flatten(1)"
    return verify_says(verify_tampered(monkeypatch, "x.mean((2, 3))", fixed, spec=clique()))


@exhibit(
    "lowering",
    "transition3: a 1×1 map is smaller than a window of 2×2",
)
def test_pools_that_an_image_is_too_small_for() -> str:
    """The same from the other side: a network for 224 pixels is given an image that its pools
    can't halve so often.

    Seen: existing implementations.
    """
    small = shipped("cliquenet_s0", "input.height=16", "input.width=16")
    with pytest.raises(SpecError) as caught:
        Compilation(small).lowered  # noqa: B018  # computed on access
    return caught.value.diagnostics[0].message


@exhibit("loader of specs", "transition.attention: expected true or false, found 'False'")
def test_a_flag_that_is_a_text() -> str:
    """Flags are parsed as strings, so that "False" is true.

    Seen: existing implementations.
    """
    text = '{cliquegraph: 1, name: n, transition: {attention: "False"}}'
    with pytest.raises(SpecError) as caught:
        cliquegraph.loads(text)
    return next(d.message for d in caught.value.diagnostics if "attention" in d.message)


@exhibit("loader of specs", "transition.attention: expected true or false, found 'False'")
def test_a_flag_that_is_a_text_on_the_command_line() -> str:
    """The same on the command line, where everything is a text: `--set` reads a value as YAML
    does, False is false, and a text is refused.

    Seen: existing implementations.
    """
    for word in ("False", "false"):
        assert shipped("quickstart", f"transition.attention={word}", "expect={}") == shipped(
            "quickstart", "transition={}", "expect={}"
        )
    with pytest.raises(SpecError) as caught:
        shipped("quickstart", 'transition.attention="False"')
    return caught.value.diagnostics[0].message


def keeps(monkeypatch: pytest.MonkeyPatch, old: str, new: str, backend: str) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_tampered(monkeypatch, old, new, backend=backend, spec=clique())
    return str(caught.value)


@exhibit(
    "`verify`",
    "block1 keeps held after a forward pass; it must hold parameters and running statistics alone",
)
def test_activations_that_outlive_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> str:
    """All activations stay alive on the module after a forward pass.

    Seen: existing implementations.
    """
    last = "        layers = [x1_2, x2_2, x3_2]\n"
    held = "        self.held = [{'x1': x1_1}, x1_2, x2_2, x3_2]\n"
    return keeps(monkeypatch, last, last + held, "torch")


@exhibit(
    "`verify`",
    "block1 keeps held after a forward pass; it must hold parameters and running statistics alone",
)
def test_activations_that_outlive_the_forward_pass_in_flax(
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The same in Flax.

    Seen: existing implementations, in PyTorch.
    """
    last = "        layers = [x1_2, x2_2, x3_2]\n"
    held = "        self.held = nnx.data(x1_2)\n"
    return keeps(monkeypatch, last, last + held, "flax")


@exhibit(
    "`verify`",
    "flax, training: no single value differs; what is returned or kept as running statistics does",
)
def test_running_statistics_of_the_biased_variance(monkeypatch: pytest.MonkeyPatch) -> str:
    """The running variance is the biased one, so that a model evaluates differently in another
    framework.

    Seen: Flax's own BatchNorm.
    """
    biased = verify_tampered(
        monkeypatch,
        "var * (count / (count - 1))",
        "var",
        backend="flax",
        spec=clique(),
    )
    return verify_says(biased)
