/* A QEMU plugin that counts how often each translated block of the guest's code is executed, in one inline
 * addition per block, and writes everything down when the guest calls getpgid(0x4C41424B); with the option
 * exit=on also when it ends (PREFIX.exit), with the mappings of QEMU itself, whose guest addresses are the same
 * as its own (PREFIX.maps).
 *
 * Compiled by plugin.py; snapshots.py turns blocks into functions and classes of instructions. The few
 * prototypes of QEMU's plugin API that are needed stand here, because distributions ship no header for it;
 * they are those of API version 1 (QEMU 6.0 to 8.2, docs/devel/tcg-plugins).
 *
 * A snapshot, PREFIX.0, PREFIX.1 …, in the machine's byte order: three uint64 (magic, blocks, instructions);
 * for each block its address, then its executions, then its instructions, each uint64; then all instruction
 * words, uint32. Blocks keep their place from one snapshot to the next. */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t,
                                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { SYSCALL_GETPGID = 155, SIGNAL = 0x4C41424B };
#define MAGIC UINT64_C(0x314E554F43424C) /* "LBCOUN1" */

typedef struct block {
    uint64_t address, executions, size;
    struct block *next;
    uint32_t words[];
} block;

static block *first, **last = &first;
static uint64_t blocks, instructions, snapshots;
static char prefix[4096];
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    size_t size = qemu_plugin_tb_n_insns(tb);
    block *b = calloc(1, sizeof *b + size * sizeof *b->words);
    if (!b) {
        fprintf(stderr, "labkit counting: out of memory\n");
        abort();
    }
    b->address = qemu_plugin_tb_vaddr(tb);
    b->size = size;
    for (size_t i = 0; i < size; i++)
        memcpy(&b->words[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof *b->words);
    pthread_mutex_lock(&turn);
    *last = b;
    last = &b->next;
    blocks++;
    instructions += size;
    pthread_mutex_unlock(&turn);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &b->executions, 1);
}

static void write_snapshot(FILE *out)
{
    uint64_t head[] = {MAGIC, blocks, instructions};
    fwrite(head, sizeof head, 1, out);
    for (size_t field = 0; field < 3; field++)
        for (const block *b = first; b; b = b->next)
            fwrite(field == 0 ? &b->address : field == 1 ? &b->executions : &b->size, sizeof(uint64_t), 1, out);
    for (const block *b = first; b; b = b->next)
        fwrite(b->words, sizeof *b->words, b->size, out);
}

static void save(const char *path)
{
    FILE *out = fopen(path, "wb");
    if (out) {
        write_snapshot(out);
        if (ferror(out) | fclose(out))
            remove(path); /* a disk that is full: better no snapshot than half of one */
    }
}

static void on_exit_of_guest(qemu_plugin_id_t id, void *data)
{
    (void)id, (void)data;
    char path[sizeof prefix + 32], text[4096];
    snprintf(path, sizeof path, "%s.maps", prefix);
    FILE *in = fopen("/proc/self/maps", "r"), *out = fopen(path, "w");
    for (size_t n; in && out && (n = fread(text, 1, sizeof text, in));)
        fwrite(text, 1, n, out);
    if (in)
        fclose(in);
    if (out)
        fclose(out);
    snprintf(path, sizeof path, "%s.exit", prefix);
    save(path);
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                       uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != SYSCALL_GETPGID || a1 != SIGNAL)
        return;
    char path[sizeof prefix + 32];
    pthread_mutex_lock(&turn);
    snprintf(path, sizeof path, "%s.%" PRIu64, prefix, snapshots++);
    save(path);
    pthread_mutex_unlock(&turn);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    if (argc < 1 || argc > 2 || strncmp(argv[0], "out=", 4) || strlen(argv[0]) >= sizeof prefix || (argc == 2 && strcmp(argv[1], "exit=on"))) {
        fprintf(stderr, "labkit counting: expected out=PREFIX and perhaps exit=on\n");
        return 1;
    }
    if (argc == 2)
        qemu_plugin_register_atexit_cb(id, on_exit_of_guest, NULL);
    strcpy(prefix, argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
