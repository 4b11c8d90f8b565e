/* Kernels for CPUs with i8mm: smmla multiplies two rows of eight by two outputs of eight, 32 multiply-adds in one instruction. */
#include "kernels.h"

/* With one row, half of every tile is of no use: the row stands twice, and one half of the results is dropped. */
INLINE int32x4_t smmla_dot(const weights *w, const int8_t *a, size_t tile, size_t k)
{
    int32x4_t tiles[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int step = 0; step < STEPS; step++) {
        int8x8_t row = vld1_s8(a + (step * tile + k) * STEP);
        for (int pair = 0; pair < 2; pair++)
            tiles[pair] = vmmlaq_s32(tiles[pair], vcombine_s8(row, row), unpack(w, step, pair));
    }
    return vcombine_s32(vget_low_s32(tiles[0]), vget_low_s32(tiles[1]));
}

void i8mm_gemv(const problem *p) { walk(p, 1, smmla_dot); }

/* Rows r to r + 2 * pairs of four outputs: with four pairs, every weight that was unpacked serves eight rows. */
INLINE void rows_by_outputs(const problem *p, size_t r, size_t n, const int pairs)
{
    const int8_t *a = rows_from(p, r, 4);
    const weights *w = weights_of(p, n);
    const size_t next = p->blocks * block_bytes(4); /* from four rows to the four below them */
    float32x4_t total[8];
    for (int k = 0; k < 2 * pairs; k++)
        total[k] = vdupq_n_f32(0);
    for (size_t b = 0; b < p->blocks; b++, w++, a += block_bytes(4)) {
        int32x4_t tile[4][2]; /* [i][j]: rows 2 * i and 2 * i + 1 by outputs 2 * j and 2 * j + 1 */
        for (int i = 0; i < pairs; i++)
            tile[i][0] = tile[i][1] = vdupq_n_s32(0);
        /* inner loop begins */
        for (int step = 0; step < STEPS; step++)
            for (int i = 0; i < pairs; i++) {
                int8x16_t two_rows = vld1q_s8(a + i / 2 * next + (4 * step + i % 2 * 2) * STEP);
                tile[i][0] = vmmlaq_s32(tile[i][0], two_rows, unpack(w, step, 0));
                tile[i][1] = vmmlaq_s32(tile[i][1], two_rows, unpack(w, step, 1));
            }
        for (int i = 0; i < pairs; i++) {
            const float *sum = sums(a + i / 2 * next, 4) + i % 2 * 2;
            int32x4_t upper = vcombine_s32(vget_low_s32(tile[i][0]), vget_low_s32(tile[i][1]));
            int32x4_t lower = vcombine_s32(vget_high_s32(tile[i][0]), vget_high_s32(tile[i][1]));
            total[2 * i] = add_block(total[2 * i], w, upper, sum[0]);
            total[2 * i + 1] = add_block(total[2 * i + 1], w, lower, sum[1]);
        }
        /* inner loop ends */
    }
    for (int k = 0; k < 2 * pairs; k++)
        vst1q_f32(p->out + (r + k) * p->outputs + n, vmulq_n_f32(total[k], p->row_scale[r + k]));
}

void i8mm_gemm(const problem *p)
{
    size_t eights = p->rows / 8 * 8;
    for (size_t n = 0; n < p->outputs; n += OUTPUTS) {
        for (size_t r = 0; r < eights; r += 8)
            rows_by_outputs(p, r, n, 4);
        if (eights < p->rows)
            rows_by_outputs(p, eights, n, 2);
    }
}
