"""Weights of a network: reading, writing and conversion, in files and in live models.

The formats are ``canonical``, the authors' ``official`` (read only), ``torchvision``, and one for
each backend.
"""

from cliquegraph.weights.formats import CANONICAL as CANONICAL
from cliquegraph.weights.formats import OFFICIAL as OFFICIAL
from cliquegraph.weights.formats import format_names as format_names
from cliquegraph.weights.formats import formats as formats
from cliquegraph.weights.identity import Difference as Difference
from cliquegraph.weights.implied import check_official as check_official
from cliquegraph.weights.implied import infer_spec as infer_spec
from cliquegraph.weights.implied import inferred_text as inferred_text
from cliquegraph.weights.live import load_weights as load_weights
from cliquegraph.weights.live import model_weights as model_weights
from cliquegraph.weights.read import open_weights as open_weights
from cliquegraph.weights.read import read_weights as read_weights
from cliquegraph.weights.write import Conversion as Conversion
from cliquegraph.weights.write import convert_weights as convert_weights
from cliquegraph.weights.write import write_weights as write_weights
