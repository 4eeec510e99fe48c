"""Weights of a network: read from any format, written to any, in files and in live models.

The formats are ``canonical``, the authors' ``official`` (reading), and one for each backend.
"""

from cliquegraph.checkpoints.formats import CANONICAL as CANONICAL
from cliquegraph.checkpoints.formats import OFFICIAL as OFFICIAL
from cliquegraph.checkpoints.formats import format_names as format_names
from cliquegraph.checkpoints.formats import formats as formats
from cliquegraph.checkpoints.identity import Difference as Difference
from cliquegraph.checkpoints.live import load_weights as load_weights
from cliquegraph.checkpoints.live import model_weights as model_weights
from cliquegraph.checkpoints.official import check_official as check_official
from cliquegraph.checkpoints.official import infer_spec as infer_spec
from cliquegraph.checkpoints.official import inferred_text as inferred_text
from cliquegraph.checkpoints.read import open_weights as open_weights
from cliquegraph.checkpoints.read import read_weights as read_weights
from cliquegraph.checkpoints.write import Conversion as Conversion
from cliquegraph.checkpoints.write import convert_weights as convert_weights
from cliquegraph.checkpoints.write import write_weights as write_weights
