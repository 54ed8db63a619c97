/*
 * A TCG plugin for QEMU that counts instructions and MMIO accesses of a guest between marks.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A mark is a long NOP, `0f 1f 80 ID 4b 52 4d`, harmless where nobody looks for it:
 *
 *   101  a section begins         120  the program is about to look for completions
 *   102  it ends                  121  it found too few, and will look again
 *                                 122  it found some
 *
 * What runs from a 120 to the next 120 or 102 is an empty poll if a 121 lies between, and no 122 before
 * it: a look that finds one of two completions has done something. How often a program polls in vain depends on the host's speed, so empty polls are counted apart.
 *
 * Each translated block is cut into stretches at its marks, and each stretch adds its length when it
 * is entered. Marks themselves are not counted. A string instruction with a repeat prefix counts
 * once, as in hardware, though QEMU comes by for every step.
 *
 * Counters belong to virtual CPUs, and run while any section does. They are exact with one CPU, or
 * with `-accel tcg,thread=single`.
 *
 * Argument: out=PATH, a file that gets one line of JSON for each section, when it ends.
 *
 * Compiled with -DAPI=N, the version of the plugin interface to keep to: 1 (QEMU 4.2 to 8.2), 2 (9.0)
 * or 3 (9.1 and later). The functions used are declared here, so that no header of QEMU is needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef API
#define API 1
#endif
#define EXPORT __attribute__((visibility("default")))

/* Of QEMU. */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;
struct plugin_info {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    int smp_vcpus, max_vcpus;
};
enum { NO_REGISTERS = 0, READS_AND_WRITES = 3 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, void (*)(unsigned, uint32_t, uint64_t, void *),
                                      int, int, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
#if API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#endif
bool qemu_plugin_mem_is_store(uint32_t);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(uint32_t, uint64_t);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *);
const char *qemu_plugin_hwaddr_device_name(const struct qemu_plugin_hwaddr *);

EXPORT int qemu_plugin_version = API;

/* Counting. */

enum { BEGIN = 101, END = 102, POLL = 120, EMPTY = 121, FOUND = 122 };
enum { MAX_CPUS = 64, MAX_DEVICES = 32, LONGEST_INSN = 15 };
enum { USER, KERNEL };

struct counts {
    uint64_t insns[2], empty[2];
    uint64_t polls, empty_polls;
    uint64_t reads[MAX_DEVICES], writes[MAX_DEVICES];
};

struct cpu {
    struct counts counts;
    /* The instructions so far when the poll at hand began. */
    uint64_t at_poll[2];
    bool polling, found, in_vain;
    /* The repeated string instruction that is being stepped through. */
    uint64_t repeated;
    /* The section that began on this CPU: what was counted then, here and elsewhere. */
    bool measuring;
    struct counts here, elsewhere;
} __attribute__((aligned(128)));

static struct cpu cpus[MAX_CPUS];
static int sections_open;
static unsigned sections_ended;
static const char *devices[MAX_DEVICES];
static int out = -1;

/*
 * What a stretch of instructions is, as the user data of its callback: nothing has to be allocated, and
 * blocks may be translated again and again.
 */
#define LENGTH(token) ((token) & 0xffff)
#define MARK(token) ((token) >> 16 & 0xff)
#define HALF(token) ((token) >> 24 & 1)
#define REPEATED ((uint64_t)1 << 25)
#define MARK_SHIFT 16
#define HALF_SHIFT 24
#define ADDRESS_SHIFT 32
_Static_assert(sizeof(void *) == 8, "user data holds 64 bits");

static void end_poll(struct cpu *cpu)
{
    if (cpu->polling && cpu->in_vain) {
        cpu->counts.empty_polls++;
        for (int half = 0; half < 2; half++)
            cpu->counts.empty[half] += cpu->counts.insns[half] - cpu->at_poll[half];
    }
    cpu->polling = false;
}

/* Adds the counts of all CPUs but one. */
static void sum_elsewhere(unsigned but, struct counts *sum)
{
    memset(sum, 0, sizeof *sum);
    for (unsigned i = 0; i < MAX_CPUS; i++) {
        if (i == but)
            continue;
        const struct counts *of = &cpus[i].counts;
        for (int half = 0; half < 2; half++)
            sum->insns[half] += of->insns[half];
        for (int device = 0; device < MAX_DEVICES; device++) {
            sum->reads[device] += of->reads[device];
            sum->writes[device] += of->writes[device];
        }
    }
}

static void add(char *text, size_t size, size_t *len, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int more = vsnprintf(text + *len, size - *len, format, args);
    va_end(args);
    if (more > 0)
        *len = *len + more < size ? *len + more : size - 1;
}

/* One line at once, so that those of several CPUs do not mix. */
static void put(const char *text, size_t len)
{
    if (write(out, text, len) != (ssize_t)len)
        fprintf(stderr, "dmaring count: writing a section: %s\n", strerror(errno));
}

static void put_section(unsigned index, const struct cpu *cpu)
{
    char text[8192];
    size_t len = 0;
    struct counts away;
    const struct counts *now = &cpu->counts, *from = &cpu->here;
    sum_elsewhere(index, &away);
    uint64_t empty[2], insns[2];
    for (int half = 0; half < 2; half++) {
        empty[half] = now->empty[half] - from->empty[half];
        insns[half] = now->insns[half] - from->insns[half] - empty[half];
    }
#define PUT(...) add(text, sizeof text, &len, __VA_ARGS__)
#define NUMBER(name, value) PUT("\"" name "\":%llu,", (unsigned long long)(value))
    PUT("{");
    NUMBER("index", __atomic_fetch_add(&sections_ended, 1, __ATOMIC_RELAXED));
    NUMBER("cpu", index);
    NUMBER("user", insns[USER]);
    NUMBER("kernel", insns[KERNEL]);
    NUMBER("empty_user", empty[USER]);
    NUMBER("empty_kernel", empty[KERNEL]);
    NUMBER("other_user", away.insns[USER] - cpu->elsewhere.insns[USER]);
    NUMBER("other_kernel", away.insns[KERNEL] - cpu->elsewhere.insns[KERNEL]);
    NUMBER("polls", now->polls - from->polls);
    NUMBER("empty_polls", now->empty_polls - from->empty_polls);
    PUT("\"mmio\":[");
    const char *comma = "";
    for (int i = 0; i < MAX_DEVICES; i++) {
        uint64_t reads = now->reads[i] - from->reads[i] + away.reads[i] - cpu->elsewhere.reads[i];
        uint64_t writes = now->writes[i] - from->writes[i] + away.writes[i] - cpu->elsewhere.writes[i];
        if (reads + writes == 0)
            continue;
        char name[64];
        snprintf(name, sizeof name, "%s", devices[i]);
        for (char *c = name; *c; c++)
            if (*c < ' ' || *c == '"' || *c == '\\')
                *c = '_';
        PUT("%s{\"device\":\"%s\",", comma, name);
        NUMBER("reads", reads);
        PUT("\"writes\":%llu}", (unsigned long long)writes);
        comma = ",";
    }
    PUT("]}\n");
    put(text, len);
}

static void handle_mark(unsigned index, struct cpu *cpu, unsigned mark)
{
    switch (mark) {
    case BEGIN:
        if (!cpu->measuring)
            __atomic_fetch_add(&sections_open, 1, __ATOMIC_RELAXED);
        cpu->measuring = true;
        cpu->polling = false;
        cpu->here = cpu->counts;
        sum_elsewhere(index, &cpu->elsewhere);
        break;
    case END:
        end_poll(cpu);
        if (cpu->measuring) {
            put_section(index, cpu);
            cpu->measuring = false;
            __atomic_fetch_sub(&sections_open, 1, __ATOMIC_RELAXED);
        } else {
            char text[64];
            put(text, snprintf(text, sizeof text, "{\"stray_end\":%u}\n", index));
        }
        break;
    case POLL:
        end_poll(cpu);
        cpu->counts.polls++;
        cpu->polling = true;
        cpu->found = cpu->in_vain = false;
        cpu->at_poll[USER] = cpu->counts.insns[USER];
        cpu->at_poll[KERNEL] = cpu->counts.insns[KERNEL];
        break;
    case EMPTY:
        cpu->in_vain = !cpu->found;
        break;
    case FOUND:
        cpu->found = true;
        break;
    }
}

static void enter_stretch(unsigned index, void *data)
{
    uint64_t token = (uintptr_t)data;
    struct cpu *cpu = &cpus[index % MAX_CPUS];
    if (MARK(token))
        handle_mark(index % MAX_CPUS, cpu, MARK(token));
    if (!__atomic_load_n(&sections_open, __ATOMIC_RELAXED))
        return;
    if (token & REPEATED) {
        if (cpu->repeated == token)
            return;
        cpu->repeated = token;
    } else {
        cpu->repeated = 0;
    }
    cpu->counts.insns[HALF(token)] += LENGTH(token);
}

/* The place of a device in the table; those that come too late share the last. */
static int device_index(const char *name)
{
    for (int i = 0; i < MAX_DEVICES - 1; i++) {
        const char *known = NULL;
        if (__atomic_compare_exchange_n(&devices[i], &known, name, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return i;
        if (strcmp(known, name) == 0)
            return i;
    }
    devices[MAX_DEVICES - 1] = "others";
    return MAX_DEVICES - 1;
}

static void access_memory(unsigned index, uint32_t info, uint64_t address, void *data)
{
    (void)data;
    if (!__atomic_load_n(&sections_open, __ATOMIC_RELAXED))
        return;
    struct qemu_plugin_hwaddr *place = qemu_plugin_get_hwaddr(info, address);
    if (!place || !qemu_plugin_hwaddr_is_io(place))
        return;
    const char *name = qemu_plugin_hwaddr_device_name(place);
    int device = device_index(name ? name : "unknown");
    struct counts *counts = &cpus[index % MAX_CPUS].counts;
    if (qemu_plugin_mem_is_store(info))
        counts->writes[device]++;
    else
        counts->reads[device]++;
}

/* Translation. */

/* The number of a mark, or 0. */
static unsigned mark_of(const uint8_t *bytes, size_t size)
{
    static const uint8_t nop[] = { 0x0f, 0x1f, 0x80 }, name[] = { 0x4b, 0x52, 0x4d };
    bool matches = size == 7 && !memcmp(bytes, nop, 3) && !memcmp(bytes + 4, name, 3);
    return matches ? bytes[3] : 0;
}

/* INS, OUTS, MOVS, CMPS, STOS, LODS or SCAS with a repeat prefix. */
static bool is_repeated(const uint8_t *bytes, size_t size)
{
    bool repeat = false;
    for (size_t i = 0; i < size; i++) {
        switch (bytes[i]) {
        case 0xf2: case 0xf3:
            repeat = true;
            break;
        case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64 ... 0x67: case 0x40 ... 0x4f:
            break;
        case 0x6c ... 0x6f: case 0xa4 ... 0xa7: case 0xaa ... 0xaf:
            return repeat;
        default:
            return false;
        }
    }
    return false;
}

static void add_stretch(struct qemu_plugin_insn *first, uint64_t token)
{
    if (first)
        qemu_plugin_register_vcpu_insn_exec_cb(first, enter_stretch, NO_REGISTERS, (void *)(uintptr_t)token);
}

static void translate(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct qemu_plugin_insn *first = NULL;
    uint64_t token = 0;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(insn);
#if API >= 3
        uint8_t bytes[LONGEST_INSN];
        size = qemu_plugin_insn_data(insn, bytes, size < sizeof bytes ? size : sizeof bytes);
#else
        const uint8_t *bytes = qemu_plugin_insn_data(insn);
#endif
        uint64_t mark = mark_of(bytes, size), address = qemu_plugin_insn_vaddr(insn);
        bool repeated = is_repeated(bytes, size);
        if (!first || mark || repeated || token & REPEATED) {
            add_stretch(first, token);
            first = insn;
            token = address << ADDRESS_SHIFT | address >> 63 << HALF_SHIFT | mark << MARK_SHIFT;
            if (repeated)
                token |= REPEATED;
        }
        if (!mark)
            token++;
        qemu_plugin_register_vcpu_mem_cb(insn, access_memory, NO_REGISTERS, READS_AND_WRITES, NULL);
    }
    add_stretch(first, token);
}

EXPORT int qemu_plugin_install(plugin_id id, const struct plugin_info *info, int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            path = argv[i] + 4;
    if (!path) {
        fprintf(stderr, "dmaring count: out=PATH is missing\n");
        return -1;
    }
    if (!info->system_emulation || strcmp(info->target_name, "x86_64")) {
        fprintf(stderr, "dmaring count: made for whole x86_64 machines, not for %s\n", info->target_name);
        return -1;
    }
    out = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (out < 0) {
        fprintf(stderr, "dmaring count: %s: %s\n", path, strerror(errno));
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
