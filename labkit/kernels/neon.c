/* Kernels for any AArch64: plain C, and NEON without dotprod. */
#include "kernels.h"

INLINE void scalar(const problem *p, const size_t tile)
{
    for (size_t n = 0; n < p->outputs; n++)
        for (size_t r = 0; r < p->rows; r++) {
            const int8_t *block = rows_from(p, r, tile), *a = block + r % tile * STEP;
            const weights *w = weights_of(p, n);
            float total = 0;
            for (size_t b = 0; b < p->blocks; b++, w++, block += block_bytes(tile), a += block_bytes(tile)) {
                int32_t dot = 0;
                for (size_t i = 0; i < 2; i++)
                    for (size_t j = 0; j < STEP; j++) {
                        uint8_t both = (uint8_t)w->nibbles[i][n % OUTPUTS][j];
                        dot += (int8_t)(both << 4) * a[i * tile * STEP + j];
                        dot += (int8_t)(both & 0xF0) * a[(i + 2) * tile * STEP + j];
                    }
                total = total + w->scale[n % OUTPUTS] * (float)dot;
                total = total + w->offset[n % OUTPUTS] * sums(block, tile)[r % tile];
            }
            p->out[r * p->outputs + n] = total * p->row_scale[r];
        }
}

/* Products of int8 are added in pairs as int16, which just holds 2 * 127 * 128, and then in pairs into int32. */
INLINE int32x4_t neon_dot(const weights *w, const int8_t *a, size_t tile, size_t k)
{
    int32x4_t dots[OUTPUTS] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int i = 0; i < 2; i++) {
        int8x8_t low = vld1_s8(a + (i * tile + k) * STEP), high = vld1_s8(a + ((i + 2) * tile + k) * STEP);
        for (int pair = 0; pair < 2; pair++) {
            int8x16_t first = unpack(w, i, pair), second = unpack(w, i + 2, pair);
            int16x8_t even = vmlal_s8(vmull_s8(vget_low_s8(first), low), vget_low_s8(second), high);
            int16x8_t odd = vmlal_s8(vmull_s8(vget_high_s8(first), low), vget_high_s8(second), high);
            dots[2 * pair] = vpadalq_s16(dots[2 * pair], even);
            dots[2 * pair + 1] = vpadalq_s16(dots[2 * pair + 1], odd);
        }
    }
    return vpaddq_s32(vpaddq_s32(dots[0], dots[1]), vpaddq_s32(dots[2], dots[3]));
}

void scalar_gemv(const problem *p) { scalar(p, 1); }
void scalar_gemm(const problem *p) { scalar(p, 4); }
void neon_gemv(const problem *p) { walk(p, 1, neon_dot); }
void neon_gemm(const problem *p) { walk(p, 4, neon_dot); }
