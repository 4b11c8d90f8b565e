"""MNN in a process of its own.

`worker` runs there and imports only NumPy and MNN; `client` is the side that talks to
it; `protocol` is the language between them. A crash in native code ends the worker,
never the notebook.
"""
