"""Our own int4 × int8 kernels: in NumPy, in C, run and counted, and timed on paper."""
