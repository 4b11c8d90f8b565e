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

/* Eight columns of the rows 2 * i and 2 * i + 1; `next` leads from four rows to the four below them. */
INLINE int8x16_t two_rows(const int8_t *a, size_t next, int i, int step)
{
    return vld1q_s8(a + i / 2 * next + (4 * step + i % 2 * 2) * STEP);
}

/* Four outputs of the upper (0) or lower (1) row of two tiles. */
INLINE int32x4_t four_outputs(const int32x4_t tile[2], int row)
{
    return row ? vcombine_s32(vget_high_s32(tile[0]), vget_high_s32(tile[1]))
               : vcombine_s32(vget_low_s32(tile[0]), vget_low_s32(tile[1]));
}

/* Rows r to r + 2 * pairs by four outputs: with four pairs, every weight that was unpacked serves eight rows. */
INLINE void rows_by_outputs(const problem *p, size_t r, size_t n, const int pairs)
{
    const int8_t *a = rows_from(p, r, 4);
    const weights *w = weights_of(p, n);
    const size_t next = p->blocks * block_bytes(4);
    float32x4_t total[8];
    for (int k = 0; k < 2 * pairs; k++)
        total[k] = vdupq_n_f32(0);
    for (size_t b = 0; b < p->blocks; b++, w++, a += block_bytes(4)) {
        int32x4_t tile[4][2]; /* [i][j]: rows 2 * i and 2 * i + 1 by outputs 2 * j and 2 * j + 1 */
        for (int i = 0; i < pairs; i++)
            tile[i][0] = tile[i][1] = vdupq_n_s32(0);
        /* inner loop begins */
        for (int step = 0; step < STEPS; step++)
            for (int i = 0; i < pairs; i++)
                for (int j = 0; j < 2; j++)
                    tile[i][j] = vmmlaq_s32(tile[i][j], two_rows(a, next, i, step), unpack(w, step, j));
        for (int k = 0; k < 2 * pairs; k++) {
            float sum = sums(a + k / 4 * next, 4)[k % 4];
            total[k] = add_block(total[k], w, four_outputs(tile[k / 2], k % 2), sum);
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
