"""What the Python API offers beyond the compiler: summaries, pictures, training, notebooks.

These modules import the libraries that they need on the first call, so that ``import cliquegraph``
stays fast.
"""
