/* Reads problems from a file, solves each with the kernel it asks for, writes the results to another: `kernels IN OUT`.
 *
 * A problem: four int32 (kernel 0..7, or -1 for the best that this CPU has; rows, blocks, outputs), then the activations,
 * float32 rows by blocks * 32, then the packed weights; outputs are a multiple of 4. A result: float32 rows by outputs.
 * Before and after each problem it calls getpgid(0x4C41424B), at which labkit's counter notes where it stands. */
#define _GNU_SOURCE
#include "kernels.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DOTPROD = 1, I8MM = 2 };
static const struct { const char *name; kernel *run; size_t tile; int needs; } KERNELS[] = {
    {"scalar_gemv", scalar_gemv, 1, 0}, {"scalar_gemm", scalar_gemm, 4, 0},
    {"neon_gemv", neon_gemv, 1, 0}, {"neon_gemm", neon_gemm, 4, 0},
    {"dotprod_gemv", dotprod_gemv, 1, DOTPROD}, {"dotprod_gemm", dotprod_gemm, 4, DOTPROD},
    {"i8mm_gemv", i8mm_gemv, 1, I8MM}, {"i8mm_gemm", i8mm_gemm, 4, I8MM},
};

#ifdef __APPLE__
#include <sys/sysctl.h>
static int has(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}
static int features(void) { return has("hw.optional.arm.FEAT_DotProd") * DOTPROD + has("hw.optional.arm.FEAT_I8MM") * I8MM; }
#else
#include <sys/auxv.h>
/* HWCAP_ASIMDDP and HWCAP2_I8MM of Linux, by their numbers: older headers lack the names. */
static int features(void) { return (getauxval(AT_HWCAP) >> 20 & 1) * DOTPROD + (getauxval(AT_HWCAP2) >> 13 & 1) * I8MM; }
#endif

/* A single row is best left to sdot even where there is smmla: half of each smmla would be wasted. */
static int best(size_t rows)
{
    int there = features();
    if (rows == 1)
        return there & DOTPROD ? 4 : 2;
    return there & I8MM ? 7 : there & DOTPROD ? 5 : 3;
}

/* One row as int8 with one scale, symmetric: eight columns every `step` bytes, a sum at the end of each block. */
__attribute__((noinline)) void quantise_row(const float *row, size_t blocks, int8_t *to, size_t tile, size_t k, float *scale)
{
    float32x4_t most = vdupq_n_f32(0);
    for (size_t i = 0; i < blocks * BLOCK; i += 4)
        most = vmaxq_f32(most, vabsq_f32(vld1q_f32(row + i)));
    float largest = vmaxvq_f32(most), times = largest > 1e-30f ? 127 / largest : 0;
    *scale = times > 0 ? 1 / times : 0;
    for (size_t b = 0; b < blocks; b++, to += block_bytes(tile)) {
        int32_t sum = 0;
        for (int step = 0; step < STEPS; step++, row += STEP) {
            int32x4_t left = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(row), times));
            int32x4_t right = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(row + 4), times));
            int16x8_t both = vcombine_s16(vqmovn_s32(left), vqmovn_s32(right));
            sum += vaddvq_s16(both);
            vst1_s8(to + (step * tile + k) * STEP, vqmovn_s16(both));
        }
        ((float *)(to + BLOCK * tile))[k] = (float)sum;
    }
}

static void stop(const char *why, int code)
{
    fprintf(stderr, "kernels: %s\n", why);
    exit(code);
}

static void *zeros(size_t count, size_t size)
{
    void *place = calloc(count + 1, size);
    if (!place)
        stop("out of memory", 4);
    return place;
}

static int solve(FILE *in, FILE *out)
{
    int32_t head[4];
    if (fread(head, sizeof head, 1, in) != 1)
        return 0;
    size_t rows = (size_t)head[1], blocks = (size_t)head[2], outputs = (size_t)head[3], width = blocks * BLOCK;
    int number = head[0] < 0 ? best(rows) : head[0];
    if (KERNELS[number].needs & ~features())
        stop("this CPU lacks the kernel's instructions", 3);
    size_t tile = KERNELS[number].tile, whole = (rows + tile - 1) / tile * tile;
    float *given = zeros(rows * width, sizeof *given), *scale = zeros(whole, sizeof *scale), *result = zeros(whole * outputs, sizeof *result);
    weights *packed = zeros(outputs / OUTPUTS * blocks, sizeof *packed);
    int8_t *activations = zeros(whole / tile * blocks, block_bytes(tile));
    if (fread(given, sizeof *given, rows * width, in) != rows * width ||
        fread(packed, sizeof *packed, outputs / OUTPUTS * blocks, in) != outputs / OUTPUTS * blocks)
        stop("the input ends in the middle of a problem", 2);
    problem p = {whole, blocks, outputs, tile, packed, activations, scale, result};
    getpgid(0x4C41424B);
    for (size_t r = 0; r < rows; r++)
        quantise_row(given + r * width, blocks, activations + r / tile * blocks * block_bytes(tile), tile, r % tile, scale + r);
    KERNELS[number].run(&p);
    getpgid(0x4C41424B);
    fwrite(result, sizeof *result, rows * outputs, out);
    printf("%s\n", KERNELS[number].name);
    free(given), free(scale), free(result), free(packed), free(activations);
    return 1;
}

int main(int argc, char **argv)
{
    FILE *in = argc == 3 ? fopen(argv[1], "rb") : NULL, *out = in ? fopen(argv[2], "wb") : NULL;
    if (!out)
        stop("expected IN and OUT, a file to read and one to write", 2);
    while (solve(in, out))
        ;
    return fclose(in) | fclose(out);
}
