"""The command line."""

from cliquegraph.cli.commands import app as app
from cliquegraph.cli.commands import main as main
