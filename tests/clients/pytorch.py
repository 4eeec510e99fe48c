"""What uses PyTorch models."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import cliquegraph
from tests.clients.client import EVERY, Client, Sample, Values
from tests.function import images_for

# ---- models, images, values ----------------------------------------------------------------


def model_of(sample: Sample, *, training: bool = False) -> Any:
    return sample.load(sample.create().double()).train(training)


def images_of(sample: Sample) -> Tensor:
    return torch.from_numpy(images_for(sample.graph))


def logits(tensor: Tensor) -> Values:
    return {"logits": tensor.detach().numpy()}


def learned(sample: Sample, model: Any, loss: Tensor) -> Values:
    """The loss, its gradients and the running statistics, by canonical name."""
    loss.backward()
    values = {"loss": loss.detach().numpy()}
    weights = cliquegraph.model_weights(model, sample.spec)
    values |= {n: a for n, a in weights.items() if n.endswith((".mean", ".var"))}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
    gradients = cliquegraph.model_weights(model, sample.spec)
    return values | {f"gradient of {n}": a for n, a in gradients.items() if n not in values}


def macs(sample: Sample) -> int:
    """The multiply–accumulates of one image, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        model_of(sample)(images_of(sample)[:1])
    return int(counter.get_total_flops()) // 2


def counted(sample: Sample, found: float) -> tuple[Values, str]:
    total = macs(sample)
    note = f"counts {found:.0f} of {total} MACs" if found != total else ""
    return {}, note  # which -O1 has fewer of: it pools first


# ---- batch normalizations, found by their class -------------------------------------------------


def freezes_by_class(sample: Sample) -> Values:
    model = model_of(sample, training=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(False)
    return learned(sample, model, model(images_of(sample)).square().sum())


def freezes_a_block(sample: Sample) -> Values:
    model = model_of(sample, training=True)
    model.block1.eval()
    return learned(sample, model, model(images_of(sample)).square().sum())


def lightning(sample: Sample, train_bn: bool) -> Values:
    from pytorch_lightning.callbacks import BaseFinetuning

    model = model_of(sample, training=True)
    BaseFinetuning.freeze(model, train_bn=train_bn)
    model.classifier.requires_grad_(True)
    return learned(sample, model, model(images_of(sample)).square().sum())


def timm_freezes(sample: Sample) -> Values:
    from timm.utils.model import freeze_batch_norm_2d

    model = freeze_batch_norm_2d(model_of(sample, training=True))
    return learned(sample, model, model(images_of(sample)).square().sum())


def updates_bn(sample: Sample) -> Values:
    model, x = model_of(sample), images_of(sample)
    torch.optim.swa_utils.update_bn([x, 2 * x + 1], model)
    return logits(model(x))


def averages(sample: Sample) -> Values:
    model = model_of(sample)
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    return logits(average.eval()(images_of(sample)))


def synchronizes(sample: Sample) -> Values:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model_of(sample, training=True))
    return learned(sample, model, model(images_of(sample)).square().sum())


# ---- gradients ---------------------------------------------------------------------------------


def penalizes_gradients(sample: Sample) -> Values:
    model, x = model_of(sample), images_of(sample).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return learned(sample, model, gradient.square().sum())


def checkpoints(sample: Sample, reentrant: bool) -> tuple[Values, str]:
    plain, model = (model_of(sample, training=True) for _ in range(2))
    once = learned(sample, plain, plain(images_of(sample)).square().sum())
    forward = model.block2.forward
    model.block2.forward = lambda x, versions: checkpoint(
        forward, x, versions, use_reentrant=reentrant
    )
    values = learned(sample, model, model(images_of(sample)).square().sum())
    assert all(array.any() for name, array in values.items() if name.startswith("gradient of"))
    statistics = [name for name in values if name.endswith((".mean", ".var"))]
    moved = [name for name in statistics if np.abs(values[name] - once[name]).max() > 1e-9]
    sections = ", ".join(sorted({name.partition(".")[0] for name in moved}))
    values = {name: array for name, array in values.items() if name not in statistics}
    return values, f"running statistics of {sections} move twice, as maps are computed again"


def maps_images(sample: Sample) -> Values:
    model = model_of(sample)
    return logits(torch.func.vmap(lambda x: model(x[None])[0])(images_of(sample)))


def differentiates_per_sample(sample: Sample) -> Values:
    model = model_of(sample)
    name = "classifier.weight"

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(model, {name: weight}, (x[None],))
        return output.square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0))(
        model.get_parameter(name).detach(), images_of(sample)
    )
    return {"gradients": gradients.detach().numpy()}


def differentiates_forwards(sample: Sample) -> Values:
    x = images_of(sample)
    return logits(torch.func.jvp(model_of(sample), (x,), (torch.ones_like(x),))[1])


def carries_tangents(sample: Sample) -> Values:
    x = images_of(sample)
    with forward_ad.dual_level():
        found = model_of(sample)(forward_ad.make_dual(x, torch.ones_like(x)))
        return logits(forward_ad.unpack_dual(found).tangent)


# ---- tracing, export -----------------------------------------------------------------------------


def traces(sample: Sample) -> Values:
    file, x = io.BytesIO(), images_of(sample)
    torch.jit.save(torch.jit.trace(model_of(sample), x), file)
    file.seek(0)
    return logits(torch.jit.load(file)(torch.cat([x, x + 1])))


def traces_symbolically(sample: Sample) -> Values:
    return logits(torch.fx.symbolic_trace(model_of(sample))(images_of(sample)))


def extracts_features(sample: Sample) -> Values:
    from torchvision.models.feature_extraction import create_feature_extractor

    model = create_feature_extractor(model_of(sample), {"classifier": "logits"})
    return logits(model(images_of(sample))["logits"])


def exports(sample: Sample, strict: bool) -> Values:
    torch._dynamo.reset()
    x = images_of(sample)
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model_of(sample), (x,), dynamic_shapes=sizes, strict=strict)
    return logits(program.module()(torch.cat([x, x + 1])))


def exports_onnx(sample: Sample, dynamo: bool) -> Values:
    import onnxruntime

    model, x, file = model_of(sample).float(), images_of(sample).float(), io.BytesIO()
    if dynamo:
        torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(file)
    else:
        torch.onnx.export(model, (x,), file, dynamo=False, opset_version=17)
    session = onnxruntime.InferenceSession(file.getvalue())
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-4, atol=1e-4)
    return {"logits": np.zeros(found.shape)}


# ---- devices -------------------------------------------------------------------------------------


def trains_on_meta(sample: Sample) -> Values:
    model = model_of(sample, training=True).to("meta")
    model(images_of(sample).to("meta")).sum().backward()
    return {}


def trains_fake_tensors(sample: Sample) -> Values:
    from torch._subclasses import FakeTensorMode

    model, x = model_of(sample, training=True), images_of(sample)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model(x).sum().backward()
    return {}


def fills_an_empty_model(sample: Sample) -> Values:
    stored = model_of(sample).state_dict()
    with torch.device("meta"):
        model = sample.create().double()
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().fill_(-1)
    model.load_state_dict(stored, strict=True)
    return logits(model.eval()(images_of(sample)))


# ---- hooks -----------------------------------------------------------------------------------


def hooks(sample: Sample) -> Values:
    model, calls = model_of(sample), list[Tensor]()
    model.stem.conv.register_forward_hook(lambda module, inputs, output: calls.append(output))
    model(images_of(sample))
    return {"maps": calls[0].detach().numpy()}


def hooks_backward(sample: Sample, layer: str, before: bool = False) -> Values:
    model, gradients = model_of(sample), list[Tensor]()
    module = model.get_submodule(layer)
    if before:
        module.register_full_backward_pre_hook(lambda module, grad: gradients.append(grad[0]))
    else:
        module.register_full_backward_hook(lambda module, _, grad: gradients.append(grad[0]))
    model(images_of(sample)).square().sum().backward()
    return {"gradient": gradients[0].numpy()}


def hooks_every_module(sample: Sample) -> Values:
    calls = list[str]()
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: calls.append(type(module).__name__)
    )
    try:
        model_of(sample)(images_of(sample))
    finally:
        hook.remove()
    layers = ("Conv2d", "BatchNorm2d", "Linear")
    return {name: np.array(float(calls.count(name))) for name in layers}


def replaces_norms(sample: Sample) -> Values:
    def replace(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features).double())
            replace(child)

    model = model_of(sample)
    replace(model)
    return logits(model(images_of(sample)))


def scripts(sample: Sample) -> Values:
    folded = sample.level == "folded"  # a class whose source inspect finds, as that of a file
    level = 0 if folded else int(sample.level.removeprefix("-O"))
    create = cliquegraph.build(sample.spec, "torch", level=level, inference=folded)
    return logits(torch.jit.script(sample.load(create().double()))(images_of(sample)))


def prunes(sample: Sample) -> Values:
    model = model_of(sample)
    prune.l1_unstructured(model.transition1.conv, "weight", amount=0.5)
    return logits(model(images_of(sample)))


def grad_cam(sample: Sample, layer: str) -> Values:
    from pytorch_grad_cam import GradCAM

    model, x = model_of(sample), images_of(sample)
    with GradCAM(model=model, target_layers=[model.get_submodule(layer)]) as cam:
        return {"map": np.asarray(cam(input_tensor=x, targets=None), np.float64)}


def captum_cam(sample: Sample, layer: str) -> Values:
    from captum.attr import LayerGradCam

    model = model_of(sample)
    cam = LayerGradCam(model, model.get_submodule(layer))
    return logits(cam.attribute(images_of(sample), target=0))


# ---- counting --------------------------------------------------------------------------------


def counts_flops(sample: Sample) -> tuple[Values, str]:
    executed = sum(node.macs for node in sample.executed.nodes)
    assert macs(sample) == executed
    return counted(sample, executed)


def counts_by_torchinfo(sample: Sample) -> tuple[Values, str]:
    import torchinfo

    x = images_of(sample)[:1]
    return counted(
        sample, torchinfo.summary(model_of(sample), input_data=x, verbose=0).total_mult_adds
    )


def counts_by_fvcore(sample: Sample) -> tuple[Values, str]:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model_of(sample), images_of(sample)[:1])
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    operators = analysis.by_operator()
    return counted(sample, operators["conv"] + operators["linear"])


def counts_by_thop(sample: Sample) -> tuple[Values, str]:
    import thop

    return counted(
        sample, thop.profile(model_of(sample), (images_of(sample)[:1],), verbose=False)[0]
    )


def counts_by_ptflops(sample: Sample) -> tuple[Values, str]:
    from ptflops import get_model_complexity_info

    shape = tuple(images_of(sample).shape[1:])
    found, _ = get_model_complexity_info(
        model_of(sample).float(),
        shape,
        as_strings=False,
        print_per_layer_stat=False,
        backend="aten",
    )
    return counted(sample, found)


COUNT = "`cliquegraph summary` and FlopCounterMode count every convolution at every level, -O0 too"
SCRIPT = "`torch.jit.trace` and `torch.export.export` serve, at -O0 and at every other level"
IN_PLACE = (
    "At -O0 the ReLU overwrites the output of the normalization, as in torchvision's models "
    "(`inplace=True`), which fail alike. Hook the gradient of that output instead: "
    "`norm.register_forward_hook(lambda module, inputs, output: output.register_hook(…))`"
)
CAM = (
    "A block returns a list of maps. Target a layer that returns one tensor, at -O0: the last "
    "readout's norm, `model.readout2.norm`"
)

CLIENTS = (
    Client("freezing: `eval()` and `requires_grad_(False)` by class", freezes_by_class),
    Client("freezing one block: `model.block1.eval()`", freezes_a_block),
    Client(
        "Lightning, `BaseFinetuning.freeze`",
        lambda sample: lightning(sample, True),
        packages=("pytorch_lightning",),
    ),
    Client(
        "Lightning, `BaseFinetuning.freeze(train_bn=False)`",
        lambda sample: lightning(sample, False),
        packages=("pytorch_lightning",),
    ),
    Client("timm, `freeze_batch_norm_2d`", timm_freezes, packages=("timm", "torchvision")),
    Client("SWA, `update_bn`", updates_bn),
    Client("SWA, `AveragedModel`", averages, EVERY),
    Client("`SyncBatchNorm.convert_sync_batchnorm`", synchronizes),
    Client("second derivatives: a gradient penalty", penalizes_gradients),
    Client("`checkpoint(block, use_reentrant=False)`", lambda s: checkpoints(s, False)),
    Client(
        "`checkpoint(block, use_reentrant=True)`",
        lambda s: checkpoints(s, True),
    ),
    Client("`torch.func.vmap`", maps_images, EVERY),
    Client("per-sample gradients: `vmap(grad(…))`", differentiates_per_sample, EVERY),
    Client("`torch.func.jvp`", differentiates_forwards, EVERY),
    Client("forward-mode differentiation: `forward_ad`", carries_tangents, EVERY),
    Client("`torch.jit.trace`, saved and loaded", traces, EVERY),
    Client("`torch.jit.script`", scripts, EVERY, advice=SCRIPT),
    Client("`torch.fx.symbolic_trace`", traces_symbolically, EVERY),
    Client(
        "torchvision, `create_feature_extractor`",
        extracts_features,
        EVERY,
        packages=("torchvision",),
    ),
    Client("`torch.export.export(strict=True)`", lambda s: exports(s, True), EVERY),
    Client("`torch.export.export(strict=False)`", lambda s: exports(s, False), EVERY),
    Client(
        "ONNX: `torch.onnx.export(dynamo=True)`",
        lambda s: exports_onnx(s, True),
        EVERY,
        packages=("onnxruntime", "onnxscript"),
    ),
    Client(
        "ONNX by tracing: `torch.onnx.export(dynamo=False)`",
        lambda s: exports_onnx(s, False),
        EVERY,
        packages=("onnxruntime", "onnx"),
    ),
    Client("training on the meta device", trains_on_meta),
    Client("training under `FakeTensorMode`", trains_fake_tensors),
    Client("built on meta, `to_empty`, loaded strictly", fills_an_empty_model, EVERY),
    Client("a forward hook on a convolution", hooks, EVERY),
    Client(
        "a full backward hook on a convolution",
        lambda s: hooks_backward(s, "stem.conv"),
        EVERY,
    ),
    Client(
        "a full backward pre-hook on a convolution",
        lambda s: hooks_backward(s, "stem.conv", before=True),
        EVERY,
    ),
    Client(
        "a full backward hook on a normalization",
        lambda s: hooks_backward(s, "readout2.norm"),
        advice=IN_PLACE,
    ),
    Client("a hook on all modules: `register_module_forward_hook`", hooks_every_module),
    Client("`nn.GroupNorm` in place of each `nn.BatchNorm2d`", replaces_norms),
    Client("`nn.utils.prune` of a convolution", prunes),
    Client(
        "Grad-CAM of a block",
        lambda s: grad_cam(s, "block2"),
        packages=("pytorch_grad_cam",),
        advice=CAM,
    ),
    Client(
        "Grad-CAM of `readout2.norm`",
        lambda s: grad_cam(s, "readout2.norm"),
        packages=("pytorch_grad_cam",),
        advice=CAM,
    ),
    Client(
        "captum, `LayerGradCam` of `readout2.norm`",
        lambda s: captum_cam(s, "readout2.norm"),
        packages=("captum",),
        advice=CAM,
    ),
    Client("`FlopCounterMode`", counts_flops, EVERY),
    Client("torchinfo", counts_by_torchinfo, EVERY, packages=("torchinfo",), advice=COUNT),
    Client("fvcore, `FlopCountAnalysis`", counts_by_fvcore, EVERY, packages=("fvcore",)),
    Client("thop", counts_by_thop, EVERY, packages=("thop",), advice=COUNT),
    Client(
        "ptflops",
        counts_by_ptflops,
        EVERY,
        packages=("ptflops", "torchvision"),
        advice=COUNT,
    ),
)
