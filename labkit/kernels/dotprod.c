/* Kernels for CPUs with dotprod: sdot adds four products to each of four int32, 16 multiply-adds in one instruction.
 *
 * Eight columns of a row meet two outputs, so the row stands twice in its vector; each output's sum comes in two halves. */
#include "kernels.h"

INLINE int32x4_t sdot_dot(const weights *w, const int8_t *a, size_t tile, size_t k)
{
    int32x4_t halves[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int step = 0; step < STEPS; step++) {
        int8x8_t row = vld1_s8(a + (step * tile + k) * STEP);
        for (int pair = 0; pair < 2; pair++)
            halves[pair] = vdotq_s32(halves[pair], unpack(w, step, pair), vcombine_s8(row, row));
    }
    return vpaddq_s32(halves[0], halves[1]);
}

void dotprod_gemv(const problem *p) { walk(p, 1, sdot_dot); }
void dotprod_gemm(const problem *p) { walk(p, 4, sdot_dot); }
