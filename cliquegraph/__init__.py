"""A compiler for networks of clique blocks (CliqueNet, CVPR 2018).

>>> import cliquegraph
>>> spec = cliquegraph.load("specs/quickstart.yaml")
>>> steps = cliquegraph.unroll(spec)
>>> cliquegraph.prove_sharing(steps).holds
True
>>> graph = cliquegraph.lower(steps)
>>> cliquegraph.network_cost(graph).total.parameters == spec.expect.parameters
True
>>> source = cliquegraph.compile(spec, "flax")
>>> "class Quickstart(nnx.Module):" in source
True
"""

from cliquegraph.analysis.cost import Cost as Cost
from cliquegraph.analysis.cost import NetworkCost as NetworkCost
from cliquegraph.analysis.cost import network_cost as network_cost
from cliquegraph.api.render import Picture as Picture
from cliquegraph.api.render import render as render
from cliquegraph.api.summary import Summary as Summary
from cliquegraph.api.summary import memory_plan as memory_plan
from cliquegraph.api.summary import summary as summary
from cliquegraph.api.train import TrainedRun as TrainedRun
from cliquegraph.api.train import train as train
from cliquegraph.built.build import build as build
from cliquegraph.compiler import Compilation as Compilation
from cliquegraph.compiler import compile as compile
from cliquegraph.compiler import fold as fold
from cliquegraph.diagnostics.codes import Code as Code
from cliquegraph.diagnostics.errors import CliqueGraphError as CliqueGraphError
from cliquegraph.diagnostics.errors import Diagnostic as Diagnostic
from cliquegraph.diagnostics.errors import SpecError as SpecError
from cliquegraph.ir.graph import Graph as Graph
from cliquegraph.ir.printer import print_graph as print_graph
from cliquegraph.lowering.lower import lower as lower
from cliquegraph.passes.pipeline import optimise as optimise
from cliquegraph.plugins.memory import MemoryPlan as MemoryPlan
from cliquegraph.proof.verify import verify as verify
from cliquegraph.semantics.interpret import interpret as interpret
from cliquegraph.spec.dump import dumps as dumps
from cliquegraph.spec.load import load as load
from cliquegraph.spec.load import loads as loads
from cliquegraph.spec.network import NetworkSpec as NetworkSpec
from cliquegraph.steps.graph import StepGraph as StepGraph
from cliquegraph.steps.sharing import prove_sharing as prove_sharing
from cliquegraph.steps.unroll import unroll as unroll
from cliquegraph.weights import convert_weights as convert_weights
from cliquegraph.weights import infer_spec as infer_spec
from cliquegraph.weights import load_weights as load_weights
from cliquegraph.weights import model_weights as model_weights
from cliquegraph.weights import read_weights as read_weights
from cliquegraph.weights import write_weights as write_weights
from cliquegraph.weights.sample import sample_tensors as sample_tensors

optimize = optimise

__version__ = "0.1.0"
