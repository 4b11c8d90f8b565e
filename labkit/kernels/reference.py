"""int4 weights in blocks × int8 activations in NumPy: what every kernel must give, bit for bit.

Activations are quantised on the fly. A weight is ``scale * (code - 8) + offset``. So over a block,
``sum(a * w) = scale * sum(a * (code - 8)) + offset * sum(a)``: whole numbers inside, and the zero
point costs one sum per row and block, which all outputs share.
"""

import numpy as np

from labkit.model.weights import QuantizedLinear, quantize

BLOCK, OUTPUTS = 32, 4
MIDDLE = 8  # what is subtracted from a code, so that 4 bits hold it as two's complement
SIXTEEN = np.float32(16)  # kernels leave a nibble in the high half of its byte
PACKED = np.dtype(
    [("nibbles", np.uint8, (2, OUTPUTS, 8)), ("offset", "<f4", OUTPUTS), ("scale", "<f4", OUTPUTS)]
)


def whole_blocks(x: np.ndarray) -> np.ndarray:
    """Activations, filled up with columns of zeros: (rows, blocks * 32) float32."""
    return np.pad(np.asarray(x, np.float32), ((0, 0), (0, -x.shape[1] % BLOCK)))


def quantize_weights(weight: np.ndarray) -> QuantizedLinear:
    """Weights (outputs, columns) as codes by blocks of 32 columns.

    The last block is filled up with copies, which change no scale.
    """
    missing = -weight.shape[1] % BLOCK
    whole = np.pad(np.asarray(weight, np.float32), ((0, 0), (0, missing)), mode="edge")
    return quantize(whole, block_size=BLOCK)


def offsets(linear: QuantizedLinear) -> np.ndarray:
    """What a block's weights are when their code is 8: (outputs, blocks) float32."""
    offset: np.ndarray = linear.minimum + np.float32(MIDDLE) * linear.scale
    return offset


def pack(linear: QuantizedLinear) -> np.ndarray:
    """Codes, scales and offsets in the order in which the kernels read them.

    For four outputs, block after block: 64 bytes of nibbles, four offsets, four scales. Byte
    ``[i][output][j]`` has column ``8 * i + j`` in its low half and column ``16 + 8 * i + j`` in its
    high half, each as two's complement of ``code - 8``. A missing fourth output is a copy of the
    last one.

    Parameters
    ----------
    linear
        4 bits, blocks of 32.

    Returns
    -------
    numpy.ndarray
        (outputs / 4, blocks) of `PACKED`.

    Source
    ------
    The order, without the bias, is that of KleidiAI 1.16.0's
    ``kai_rhs_pack_nxk_qai4c32p_qau4c32s0s1`` with nr 4, kr 16, sr 2.
    """
    outputs, blocks = linear.scale.shape
    groups = -(-outputs // OUTPUTS)
    rows = np.minimum(np.arange(groups * OUTPUTS), outputs - 1)
    nibbles = linear.codes[rows] ^ MIDDLE  # the same four bits as code - 8
    # group, output, block, half, i, j becomes half, group, block, i, output, j
    low, high = nibbles.reshape(groups, OUTPUTS, blocks, 2, 2, 8).transpose(3, 0, 2, 4, 1, 5)
    packed = np.empty((groups, blocks), PACKED)
    packed["nibbles"] = low | high << 4
    for name, values in (("offset", offsets(linear)), ("scale", linear.scale / SIXTEEN)):
        packed[name] = values[rows].reshape(groups, OUTPUTS, blocks).swapaxes(1, 2)
    return packed


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations as int8, symmetric: (rows, columns) int8, and a scale for each row, float32.

    >>> codes, scale = quantize_rows(np.array([[0.5, -1.0, 0.25]], np.float32))
    >>> codes.tolist(), round(float(scale[0]) * 127, 3)
    ([[64, -127, 32]], 1.0)
    """
    x = np.asarray(x, np.float32)
    largest = np.abs(x).max(1)
    largest[largest <= np.float32(1e-30)] = np.inf  # a row of zeros: its codes and scale are zero
    times = np.float32(127) / largest
    scale = np.divide(np.float32(1), times, out=np.zeros_like(times), where=times > 0)
    return np.rint(x * times[:, None]).astype(np.int8), scale


def product(x: np.ndarray, linear: QuantizedLinear) -> np.ndarray:
    """Activations times weights, with the kernels' float operations in the kernels' order.

    Parameters
    ----------
    x
        (rows, columns) finite float32; columns up to the weights' own are taken as zeros.
    linear
        (outputs, columns), 4 bits, blocks of 32.

    Returns
    -------
    numpy.ndarray
        (rows, outputs) float32.
    """
    a, row_scale = quantize_rows(whole_blocks(x))
    # int8 times int4 over 32 columns stays far below 2**24, so float32 adds these whole numbers
    # exactly, in any order.
    rows, codes = a.astype(np.float32), linear.codes.astype(np.float32) - MIDDLE
    total, offset = np.zeros((len(a), len(codes)), np.float32), offsets(linear)
    for block, scale in enumerate(linear.scale.T):
        columns = np.s_[BLOCK * block : BLOCK * block + BLOCK]
        dots = rows[:, columns] @ codes[:, columns].T * SIXTEEN  # sixteen times, as the kernels'
        total = total + scale / SIXTEEN * dots
        total = total + offset[:, block] * rows[:, columns].sum(1)[:, None]
    result: np.ndarray = total * row_scale[:, None]
    return result
