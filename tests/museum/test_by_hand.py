"""Museum: models that somebody wrote by hand, as ``certify`` names what is wrong with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cliquegraph import NetworkSpec
from cliquegraph.proof.certify import certify
from cliquegraph.proof.weights_map import parse_map
from tests.museum.exhibits import exhibit
from tests.museum.test_loops import AREA, BLT, FRACTAL, LAST, RCL
from tests.networks import clique, graph_of, network
from tests.proof.by_hand import clique as cliques
from tests.proof.by_hand import loops, norms, units

RESIDUAL = network(
    {"kind": "residual", "layers": 2, "filters": 4},
    {"kind": "residual", "layers": 2, "filters": 6, "stride": 2},
    stem={"filters": 4, "norm": True},
    **LAST,
)


def certify_says(spec: NetworkSpec, model: nn.Module, weights_map: str) -> str:
    """What differs first, without the line of the model."""
    found = certify(spec, model, parse_map(weights_map, "map.yaml", graph_of(spec)))
    assert not found.ok
    if found.proof.difference is not None:
        return found.proof.difference.message
    return "\n".join(found.findings)


# ---- versions -------------------------------------------------------------------------------


class OneDictionary(cliques.Clique):
    """What it calls the first stage is the second by the time it is read."""

    def stage2(self, first: dict[int, Tensor]) -> dict[int, Tensor]:
        for j in range(1, self.n + 1):
            sources = [i for i in range(1, self.n + 1) if i != j]
            first[j] = self.update(first, sources, j, self.bn2[j - 1])
        return first

    def outputs(self, first: dict[int, Tensor], second: dict[int, Tensor]) -> Tensor:
        return torch.cat([first[j] for j in range(self.n + 1)], 1)


class OneDictionaryNet(cliques.CliqueNet):
    block = OneDictionary


@exhibit(
    "`certify`",
    "readout1: the model reads {X0, X1@2, X2@2, X3@2}, declared is {X0, X1@1, X2@1, X3@1}",
)
def test_one_dictionary_by_hand() -> str:
    """The same in a model written by hand: the features of stage I are read after stage II has
    overwritten them.

    Seen: the authors' code, issues #2 and #3.
    """
    return certify_says(clique(feature=1), OneDictionaryNet(), cliques.clique_map())


@exhibit(
    "`certify`",
    "block1, stage 2 layer 2: the model reads {X1@2, X3@1}, declared is {X1@1, X3@1}",
)
def test_updated_in_place_by_hand() -> str:
    """The same from its other side: updates that should read the stage before read what their own
    stage has written already.

    Seen: the authors' code, issues #2 and #3, of which this is the other face.
    """
    spec = clique(update="simultaneous")
    return certify_says(spec, cliques.CliqueNet(), cliques.clique_map())


class WrongShortcut(units.ResNet):
    """The variable of the shortcut is assigned before the first unit."""

    def units_of(self, x: Tensor) -> Tensor:
        first, unit = self.units[0](x), self.units[1]
        y = unit.bn2(unit.conv2(torch.relu(unit.bn1(unit.conv1(first)))))
        return self.units[3](self.units[2](torch.relu(y + x)))


@exhibit("`certify`", "block1, stage 1 layer 2: the model reads {X0, X1@1}, declared is {X1@1}")
def test_a_skip_from_the_wrong_unit_by_hand() -> str:
    """The same in a model written by hand.

    Seen: what a variable that is assigned too late would do.
    """
    return certify_says(RESIDUAL, WrongShortcut(), units.RESNET_MAP)


# ---- kernels --------------------------------------------------------------------------------


class CrossedSlots(cliques.Clique):
    """An index that is merely wrong: two pairs have each other's slots."""

    def kernel(self, i: int, j: int) -> Tensor:
        crossed = {(3, 1): (2, 3), (2, 3): (3, 1)}
        return super().kernel(*crossed.get((i, j), (i, j)))


class CrossedSlotsNet(cliques.CliqueNet):
    block = CrossedSlots


@exhibit(
    "`certify`",
    "block1, stage 1 layer 3: the model reads {X0 by W0_3, X1@1 by W1_3, X2@1 by W3_1}, "
    "declared is {X0 by W0_3, X1@1 by W1_3, X2@1 by W2_3}",
)
def test_crossed_slots_by_hand() -> str:
    """Two pairs have each other's slots of a table. Shapes, storage and counts are right.

    Seen: what an index that is merely wrong would do in such a table.
    """
    return certify_says(clique(), CrossedSlotsNet(), cliques.clique_map())


class OneSlot(cliques.Clique):
    """W(2→3) is W(3→1): one slot is used twice, the other never."""

    def kernel(self, i: int, j: int) -> Tensor:
        return super().kernel(*{(2, 3): (3, 1)}.get((i, j), (i, j)))


class OneSlotNet(cliques.CliqueNet):
    block = OneSlot


@exhibit(
    "`certify`",
    "block1, stage 1 layer 3: the model reads {X0 by W0_3, X1@1 by W1_3, X2@1 by W3_1}, "
    "declared is {X0 by W0_3, X1@1 by W1_3, X2@1 by W2_3}; nothing uses block1.w2_3",
)
def test_one_slot_for_two_pairs_by_hand() -> str:
    """W(k→first) and W(k-1→last) are one slot of the table, and the other slot is never used.

    Seen: a public re-implementation, which stops at 92.2 % on CIFAR-10.
    """
    return certify_says(clique(), OneSlotNet(), cliques.clique_map())


class SmallTable(cliques.CliqueNet):
    """A table without a slot for W(2→3)."""

    def __init__(self) -> None:
        super().__init__()
        self.clique.table = self.clique.table[:-1]


@exhibit(
    "`certify`",
    "block1.w2_3.weight and block1.w3_1.weight are one tensor in the model, clique.table.2; "
    "declared are two",
)
def test_a_table_that_is_too_small_by_hand() -> str:
    """The same with a table that has a slot too few, which the weight map has to show.

    Seen: a public re-implementation, which stops at 92.2 % on CIFAR-10.
    """
    weights_map = cliques.clique_map().replace("clique.table.8", "clique.table.2")
    return certify_says(clique(), SmallTable(), weights_map)


class CrossedLayer(loops.RecurrentLayer):
    """The input's kernel and the state's change places after the first step."""

    def forward(self, u: Tensor) -> Tensor:
        x = self.activate(self.feed(u), 0)
        for step in range(1, self.steps + 1):
            x = self.activate(self.recur(u) + self.feed(x), step)
        return x


class CrossedRCNN(loops.RCNN):
    layer = CrossedLayer


@exhibit(
    "`certify`",
    "block1, stage 2 layer 1: the model reads {X0 by W1_1, X1@1 by W0_1}, "
    "declared is {X0 by W0_1, X1@1 by W1_1}",
)
def test_crossed_kernels_by_hand() -> str:
    """A recurrent layer reads its input through W_f in the first step and through W_r later, its
    own state through W_f.

    Seen: LixiaoTHU/RCNN.
    """
    return certify_says(RCL, CrossedRCNN(), loops.RCNN_MAP)


class NeverBack(loops.BLT):
    """A number from the top is compared with one from the bottom, so the skip is never read."""

    def back(self, v4: Tensor, step: int) -> Tensor | None:
        return None


@exhibit(
    "`certify`",
    "block1, stage 2 layer 1: the model reads {X0}, declared is {X0, X3@1}; nothing uses "
    "block1.w3_1",
)
def test_a_kernel_that_is_never_used_by_hand() -> str:
    """The skip from V4 to V1 is never connected. Its kernel is stored and saved, and gets no
    gradient.

    Seen: KietzmannLab/BLT-VS, the unrolling of the published ImageNet model.
    """
    return certify_says(BLT, NeverBack(), loops.BLT_MAP)


class CopiedKernels(loops.BLT):
    """The kernel of the last step is a copy of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.last.load_state_dict(self.down.state_dict())

    def back(self, v4: Tensor, step: int) -> Tensor | None:
        return (self.last if step == 2 else self.down)(v4)


@exhibit("`certify`", "nothing declares the parameter last.weight, 4×4×3×3")
def test_copied_kernels_by_hand() -> str:
    """The kernels of later steps are copies of the first step's, made when the model is built and
    then trained apart.

    Seen: jacobzweig/Keras-RCNN.
    """
    return certify_says(BLT, CopiedKernels(), loops.BLT_MAP)


class EvenKernel(units.FractalNet):
    def __init__(self) -> None:
        super().__init__()
        self.block.convs[2] = nn.Conv2d(3, 3, 2, bias=False)


@exhibit("`certify`", "block.convs.2.weight is 3×3×2×2, but block1.v3.weight is declared 3×3×3×3")
def test_even_kernels_by_hand() -> str:
    """Kernels of 2×2 in the last block, other than the authors' generator.

    Seen: snf/keras-fractalnet.
    """
    return certify_says(FRACTAL, EvenKernel(), units.FRACTAL_MAP)


# ---- operations -----------------------------------------------------------------------------


class NetInput(loops.RecurrentLayer):
    """The last step returns its net input."""

    def activate(self, x: Tensor, step: int) -> Tensor:
        if step == self.steps:
            return x + self.bias[:, None, None]
        return super().activate(x, step)


class NetInputRCNN(loops.RCNN):
    layer = NetInput


@exhibit("`certify`", "block1, stage 3 layer 1: what its ReLU computes is not in the model")
def test_the_last_step_without_its_ops_by_hand() -> str:
    """The last step returns its net input: its ReLU and LRN are left out.

    Seen: a port of RCNN for a course at KTH.
    """
    return certify_says(RCL, NetInputRCNN(), loops.RCNN_MAP)


class StrideLeftOn(loops.Area):
    def strides(self, step: int) -> int:
        return 2


class StrideLeftOnNet(loops.AreaNet):
    area = StrideLeftOn


@exhibit(
    "`certify`",
    "block1, stage 2 layer 1: what its convolution computes is not in the model: its maps have "
    "2×2 pixels, declared are 4×4",
)
def test_a_stride_that_is_left_on_by_hand() -> str:
    """A convolution's stride is set on the module in the first step and not set back.

    Seen: the authors' CORnet-S sets and resets it so.
    """
    return certify_says(network(AREA, **LAST), StrideLeftOnNet(), loops.AREA_MAP)


class FixedPool(cliques.CliqueNet):
    def pool(self, x: Tensor) -> Tensor:
        return x[:, :, :7, :7].mean((2, 3))


@exhibit(
    "`certify`",
    "on images of 8×8, readout1: what it computes after its ReLU is not in the model",
)
def test_a_pool_of_a_fixed_size_by_hand() -> str:
    """A pool has the size of the last maps of images of 224 pixels, and leaves pixels of others
    out: on small ones it is right.

    Seen: existing implementations.
    """
    return certify_says(clique(), FixedPool(), cliques.clique_map())


class Biased(norms.OwnNorm):
    unbiased = False


class BiasedNet(cliques.CliqueNet):
    def __init__(self) -> None:
        super().__init__()
        self.clique.bn2[1] = Biased(6)


@exhibit(
    "`certify`",
    "block1, stage 2 layer 2: clique.bn2.1.running_var moves not as declared: it moves toward the "
    "biased variance, declared is the unbiased one; logits are",
)
def test_the_biased_variance_by_hand() -> str:
    """The running variance is the biased one, so that a model evaluates differently in another
    framework.

    Seen: Flax's own BatchNorm.
    """
    return certify_says(clique(), BiasedNet(), cliques.clique_map())


class OneColumn(units.Fractal):
    """The column is drawn once, when the model is built."""

    def join(self, columns: list[Tensor]) -> Tensor:
        return columns[0] if self.training else super().join(columns)


class OneColumnNet(units.FractalNet):
    fractal = OneColumn


@exhibit("`certify`", "block1, stage 1 layer 4: draws nothing, but join_weights is declared")
def test_a_column_that_is_drawn_once_by_hand() -> str:
    """The global path is drawn when the graph is built and never again.

    Seen: snf/keras-fractalnet, its issues 2, 3, 7.
    """
    drop = {"kind": "fractal", "columns": 2, "filters": 3, "drop_path": {"global": 0.5}}
    return certify_says(network(drop, **LAST), OneColumnNet(), units.FRACTAL_MAP)
