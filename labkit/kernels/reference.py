"""int4 weights in blocks × int8 activations quantised on the fly, in NumPy: the numbers that every kernel must give, bit for bit.

A weight is ``scale * (code - 8) + offset``. So over a block, ``sum(a * w) = scale * sum(a * (code - 8)) + offset * sum(a)``: whole
numbers inside, and the zero point costs one sum per row and block, which all outputs share.
"""

from __future__ import annotations

import numpy as np

from labkit.model.weights import QuantizedLinear, quantize

BLOCK, OUTPUTS = 32, 4
MIDDLE = 8  # what is subtracted from a code, so that 4 bits hold it as two's complement
PACKED = np.dtype(
    [("nibbles", np.uint8, (2, OUTPUTS, 8)), ("offset", "<f4", OUTPUTS), ("scale", "<f4", OUTPUTS)]
)


def whole_blocks(x: np.ndarray) -> np.ndarray:
    """Activations, their columns filled up with zeros to whole blocks: (rows, blocks * 32) float32."""
    return np.pad(np.asarray(x, np.float32), ((0, 0), (0, -x.shape[1] % BLOCK)))


def quantize_weights(weight: np.ndarray) -> QuantizedLinear:
    """Weights (outputs, columns) as codes by blocks of 32 columns; the last block is filled up with copies, which change no scale."""
    return quantize(
        np.pad(
            np.asarray(weight, np.float32), ((0, 0), (0, -weight.shape[1] % BLOCK)), mode="edge"
        ),
        block_size=BLOCK,
    )


def offsets(linear: QuantizedLinear) -> np.ndarray:
    """What a block's weights are when their code is 8: (outputs, blocks) float32."""
    offset: np.ndarray = linear.minimum + np.float32(MIDDLE) * linear.scale
    return offset


def pack(linear: QuantizedLinear) -> np.ndarray:
    """Codes, scales and offsets in the order in which the kernels read them.

    For four outputs, block after block: 64 bytes of nibbles, four offsets, four scales. Byte ``[i][output][j]`` has column
    ``8 * i + j`` in its low half and column ``16 + 8 * i + j`` in its high half, each as two's complement of ``code - 8``.
    A missing fourth output is a copy of the last one.

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
    The order, without the bias, is that of KleidiAI 1.16.0's ``kai_rhs_pack_nxk_qai4c32p_qau4c32s0s1`` with nr 4, kr 16, sr 2.
    """
    rows = np.minimum(np.arange(-(-len(linear.codes) // OUTPUTS) * OUTPUTS), len(linear.codes) - 1)
    groups, blocks = len(rows) // OUTPUTS, linear.scale.shape[1]
    nibbles = linear.codes[rows] ^ MIDDLE  # the same four bits as code - 8
    halves = nibbles.reshape(groups, OUTPUTS, blocks, 2, 2, 8).transpose(
        3, 0, 2, 4, 1, 5
    )  # half, group, block, i, output, j
    packed = np.empty((groups, blocks), PACKED)
    packed["nibbles"] = halves[0] | halves[1] << 4
    packed["offset"] = offsets(linear)[rows].reshape(groups, OUTPUTS, blocks).swapaxes(1, 2)
    packed["scale"] = linear.scale[rows].reshape(groups, OUTPUTS, blocks).swapaxes(
        1, 2
    ) / np.float32(16)
    return packed


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations as int8, symmetric, with one scale for each row: (rows, columns) int8 and (rows,) float32.

    >>> codes, scale = quantize_rows(np.array([[0.5, -1.0, 0.25]], np.float32))
    >>> codes.tolist(), round(float(scale[0]) * 127, 3)
    ([[64, -127, 32]], 1.0)
    """
    x = np.asarray(x, np.float32)
    largest = np.abs(x).max(1)
    some = largest > np.float32(1e-30)
    times = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=some)
    scale = np.divide(np.float32(1), times, out=np.zeros_like(times), where=some)
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
    # int8 times int4 over 32 columns stays far below 2**24, so float32 adds these whole numbers exactly, in any order.
    rows, codes = a.astype(np.float32), linear.codes.astype(np.float32) - MIDDLE
    total, offset = np.zeros((len(a), len(codes)), np.float32), offsets(linear)
    for block in range(linear.scale.shape[1]):
        columns = np.s_[BLOCK * block : BLOCK * block + BLOCK]
        dots = (
            rows[:, columns] @ codes[:, columns].T * np.float32(16)
        )  # sixteen times, as the kernels have them
        total = total + linear.scale[:, block] / np.float32(16) * dots
        total = total + offset[:, block] * rows[:, columns].sum(1)[:, None]
    result: np.ndarray = total * row_scale[:, None]
    return result
