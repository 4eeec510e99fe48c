"""Generated modules without files: ``import cliquegraph.built.NAME`` compiles what NAME declares.

A name holds a whole spec, its backend and its level (``names.py``). So pickle, which stores the
module and the name of a class, stores all that another process needs to compile it again: classes
and instances survive ``torch.save``, ``multiprocessing`` and ``copy.deepcopy`` like those of a
module on disk. ``cliquegraph.build`` returns a class of such a module.
"""

from cliquegraph.built.importer import install as _install

_install()
