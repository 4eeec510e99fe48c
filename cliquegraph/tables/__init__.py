"""Tables that commands and the Python API show."""
