"""Our own int4 × int8 kernels: in NumPy (`reference`), in C (``*.c``), run and counted (`running`), timed on paper (`static`)."""
