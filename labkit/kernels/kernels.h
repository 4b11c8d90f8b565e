/* int4 weights in blocks times int8 activations that are quantised on the fly: what all kernels share.
 *
 * A weight is  scale * (code - 8) + offset,  code 0..15, with a scale and an offset for each block of 32 columns of an output.
 * So activation times weight, summed over a block, is  scale * sum(a * (code - 8)) + offset * sum(a):  the second sum is the
 * same for all outputs, and is made once, when the activations are quantised.
 *
 * All kernels do these float operations in one order, none of them fused, so that every result has the same bits:
 *     total = (total + scale * dot) + offset * sum,  block after block;  at the end  total * scale of the activations' row. */
#ifndef LABKIT_KERNELS_H
#define LABKIT_KERNELS_H
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOCK = 32, OUTPUTS = 4, STEP = 8, STEPS = BLOCK / STEP };
#define INLINE static inline __attribute__((always_inline))

/* One block of four outputs. Nibbles are two's complement of code - 8. The byte [i][output][j] has column 8 * i + j in its
 * low half and column 16 + 8 * i + j in its high half: shifted left by four, or masked with 0xF0, each is an int8 of 16 times
 * its value, with no shift back. `scale` is therefore stored divided by 16. */
typedef struct {
    int8_t nibbles[2][OUTPUTS][STEP];
    float offset[OUTPUTS], scale[OUTPUTS];
} weights;

/* A problem, packed. Weights: for each four outputs, all blocks. Activations: for each tile of `tile` rows (1 in GEMV, 4 in
 * GEMM), all blocks; in a block eight columns of each row, then the next eight, and at its end a float sum of each row.
 * Rows and outputs are whole tiles; whoever packs fills up. */
typedef struct {
    size_t rows, blocks, outputs, tile;
    const weights *packed;
    const int8_t *activations;
    const float *row_scale;
    float *out; /* rows by outputs */
} problem;

typedef void kernel(const problem *);
kernel scalar_gemv, scalar_gemm, neon_gemv, neon_gemm, dotprod_gemv, dotprod_gemm, i8mm_gemv, i8mm_gemm;

INLINE size_t block_bytes(size_t tile) { return tile * (BLOCK + sizeof(float)); }
INLINE const weights *weights_of(const problem *p, size_t output) { return p->packed + output / OUTPUTS * p->blocks; }
INLINE const int8_t *rows_from(const problem *p, size_t row, size_t tile)
{
    return p->activations + row / tile * p->blocks * block_bytes(tile);
}
INLINE const float *sums(const int8_t *block, size_t tile) { return (const float *)(block + BLOCK * tile); }

/* Eight columns of two outputs as int8 of 16 times their value: columns 8 * step and on, outputs 2 * pair and 2 * pair + 1. */
INLINE int8x16_t unpack(const weights *w, int step, int pair)
{
    int8x16_t both = vld1q_s8(w->nibbles[step % 2][2 * pair]);
    return step < 2 ? vshlq_n_s8(both, 4) : vandq_s8(both, vdupq_n_s8((int8_t)0xF0));
}

/* What a block adds to four outputs of one row. */
INLINE float32x4_t add_block(float32x4_t total, const weights *w, int32x4_t dot, float sum)
{
    total = vaddq_f32(total, vmulq_f32(vld1q_f32(w->scale), vcvtq_f32_s32(dot)));
    return vaddq_f32(total, vmulq_n_f32(vld1q_f32(w->offset), sum));
}

/* A kernel made of a function that multiplies one block: four dot products of row `k` of a tile. */
typedef int32x4_t dot_function(const weights *, const int8_t *block, size_t tile, size_t k);
INLINE void walk(const problem *p, const size_t tile, dot_function *dot)
{
    for (size_t n = 0; n < p->outputs; n += OUTPUTS)
        for (size_t r = 0; r < p->rows; r += tile) {
            const int8_t *a = rows_from(p, r, tile);
            const weights *w = weights_of(p, n);
            float32x4_t total[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
            for (size_t b = 0; b < p->blocks; b++, w++, a += block_bytes(tile))
#pragma GCC unroll 4
                for (size_t k = 0; k < tile; k++)
                    total[k] = add_block(total[k], w, dot(w, a, tile, k), sums(a, tile)[k]);
            for (size_t k = 0; k < tile; k++)
                vst1q_f32(p->out + (r + k) * p->outputs + n, vmulq_n_f32(total[k], p->row_scale[r + k]));
        }
}
#endif
