/* What this machine can do at most: int8 dot products, float32 multiply-adds, bytes from memory.

   roof THREADS REPEATS MEBIBYTES prints "NAME WORK SECONDS" for each repetition: operations (a
   multiply-add is two) or bytes. Threads begin together; the last one decides. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX2__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
typedef float floats __attribute__((vector_size(WIDTH)));
typedef uint64_t words __attribute__((vector_size(WIDTH)));

/* Sums that do not wait for each other: latency times units of a core, as far as its registers
   go. */
#if defined(__x86_64__) && !defined(__AVX512F__)
#define SUMS 8
#else
#define SUMS 16
#endif
/* The compiler must not know that a value stays as it is, or it takes the work out of the loop. */
#if defined(__x86_64__)
#define CHANGED(value) __asm__ volatile("" : "+x"(value))
#else
#define CHANGED(value) __asm__ volatile("" : "+w"(value))
#endif
#define EACH _Pragma("GCC unroll 16") for (int i = 0; i < SUMS; i++)

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define INT8 "vpdpbusd, 512 bits"
typedef __m512i bytes_in, sums_in;
#define DOT(sum, x, y) _mm512_dpbusd_epi32(sum, x, y)
#define PRODUCTS 64
#elif defined(__AVXVNNI__)
#include <immintrin.h>
#define INT8 "vpdpbusd, 256 bits"
typedef __m256i bytes_in, sums_in;
#define DOT(sum, x, y) _mm256_dpbusd_avx_epi32(sum, x, y)
#define PRODUCTS 32
#elif defined(__AVX2__)
#include <immintrin.h>
#define INT8 "vpmaddubsw, vpmaddwd, vpaddd, 256 bits"
typedef __m256i bytes_in, sums_in;
#define ONES _mm256_set1_epi16(1)
#define DOT(sum, x, y) \
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ONES))
#define PRODUCTS 32
#elif defined(__ARM_FEATURE_MATMUL_INT8)
#include <arm_neon.h>
#define INT8 "smmla"
typedef int8x16_t bytes_in;
typedef int32x4_t sums_in;
#define DOT(sum, x, y) vmmlaq_s32(sum, x, y)
#define PRODUCTS 32
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define INT8 "sdot"
typedef int8x16_t bytes_in;
typedef int32x4_t sums_in;
#define DOT(sum, x, y) vdotq_s32(sum, x, y)
#define PRODUCTS 16
#endif

struct job {
    atomic_int *waiting; /* macOS has no barriers */
    int kind;
    int64_t rounds;
    words *memory;
    size_t vectors;
    double begun, ended;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void floats_of(int64_t rounds)
{
    floats sums[SUMS] = {0}, x = {0}, y = {0};
    CHANGED(y);
    for (int64_t round = 0; round < rounds; round++) {
        CHANGED(x);
        EACH sums[i] += x * y;
    }
    EACH CHANGED(sums[i]);
}

#ifdef INT8
static void bytes_of(int64_t rounds)
{
    sums_in sums[SUMS] = {0};
    bytes_in x = {0}, y = {0};
    CHANGED(y);
    for (int64_t round = 0; round < rounds; round++)
        EACH {
            CHANGED(x);
            sums[i] = DOT(sums[i], x, y);
        }
    EACH CHANGED(sums[i]);
}
#endif

static void read_all(const words *memory, size_t vectors)
{
    words sums[8] = {0};
    for (size_t at = 0; at + 8 <= vectors; at += 8)
        for (int i = 0; i < 8; i++)
            sums[i] += memory[at + i];
    for (int i = 0; i < 8; i++)
        CHANGED(sums[i]);
}

static void *work(void *given)
{
    struct job *job = given;
    if (job->kind == 2) /* whoever writes a page first has it near */
        memset(job->memory, 1, job->vectors * WIDTH);
    atomic_fetch_sub(job->waiting, 1);
    while (atomic_load(job->waiting) > 0)
        sched_yield();
    job->begun = now();
    if (job->kind == 0)
        floats_of(job->rounds);
#ifdef INT8
    if (job->kind == 1)
        bytes_of(job->rounds);
#endif
    if (job->kind == 2)
        read_all(job->memory, job->vectors);
    job->ended = now();
    return NULL;
}

static double together(struct job *jobs, int threads, int kind, int64_t rounds)
{
    atomic_int waiting = threads;
    pthread_t ids[threads];
    for (int i = 0; i < threads; i++) {
        jobs[i].waiting = &waiting, jobs[i].kind = kind, jobs[i].rounds = rounds;
        if (pthread_create(&ids[i], NULL, work, &jobs[i]))
            exit(2);
    }
    double begun = 1e300, ended = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        begun = jobs[i].begun < begun ? jobs[i].begun : begun;
        ended = jobs[i].ended > ended ? jobs[i].ended : ended;
    }
    return ended - begun;
}

int main(int count, char **words_given)
{
    if (count != 4)
        return 2;
    int threads = atoi(words_given[1]), repeats = atoi(words_given[2]);
    size_t size = (size_t)atoi(words_given[3]) << 20, share = size / WIDTH / threads / 8 * 8;
    words *memory = aligned_alloc(WIDTH, size);
    struct job jobs[threads];
    if (!memory)
        return 3;
    for (int i = 0; i < threads; i++)
        jobs[i].memory = memory + share * i, jobs[i].vectors = share;
    const char *names[] = {"float32", "int8", "memory"};
    const double each[] = {2.0 * SUMS * (WIDTH / sizeof(float)),
#ifdef INT8
                           2.0 * SUMS * PRODUCTS,
#else
                           0,
#endif
                           0};
#ifdef INT8
    printf("with %s\n", INT8);
#endif
    for (int kind = 0; kind < 3; kind++) {
        int64_t rounds = 1 << 16;
        if (kind < 2 && !each[kind])
            continue;
        while (kind < 2 && together(jobs, threads, kind, rounds) < 0.05)
            rounds *= 2;
        for (int i = 0; i < repeats; i++) {
            double seconds = together(jobs, threads, kind, rounds);
            double done = kind < 2 ? each[kind] * (double)rounds : (double)share * WIDTH;
            printf("%s %.0f %.9f\n", names[kind], done * threads, seconds);
        }
    }
    free(memory);
    return 0;
}
