/* Command rings under fire. Threads and processes send and check every record; clients are killed at random instants
 * and leave whole commands only; hostile clients scribble over the whole ring while the owner drains it. `checkring N`
 * does N rounds of each (default 5); `checkring --bench` times writes of 64 bytes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../csrc/ring_serve.h"
#include "check.h"
#include "harness.h"

enum { PAGES = 8, PAGE_BYTES = 4096, COMMAND_BYTES = 1 << 16, COMPLETION_BYTES = 1 << 14, WAIT_NS = 1000000000 };
#define SEGMENT_BYTES ((uint64_t)64 << 20)

/* An owner: a core with PAGES pages, and one client. */
typedef struct stage {
    mmsb_shared shared;
    mmsb_core core;
    uint8_t *log;
    mmsb_client client;
    uint32_t *sleeping; /* shared with the client */
    int bell;
    uint64_t handed_up;
    mmsb_patience patience;
} stage;

static void use_log(stage *s) {
    static const uint8_t salt[16];
    mmsb_active active = {.map = s->log, .fd = -1, .number = 1, .capacity = SEGMENT_BYTES, .base_seq = s->core.seq};
    active.tail = MMSB_SEGMENT_HEADER_BYTES;
    mmsb_core_use_segment(&s->core, &active, salt, 0);
}

static void open_ring(stage *s, uint64_t command_bytes, uint64_t completion_bytes) {
    CHECK(mmsb_client_init(&s->client, &mmsb_alloc_libc, command_bytes, completion_bytes) == MMSB_OK, "no ring");
    s->client.rights.every_page = true;
    *s->sleeping = 0;
}

static void open_stage(stage *s) {
    memset(s, 0, sizeof *s);
    s->log = mmap(NULL, SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    s->sleeping = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(s->log != MAP_FAILED && s->sleeping != MAP_FAILED && s->bell >= 0, "no memory");
    CHECK(mmsb_core_init(&s->core, mmsb_cpu_detect(), &mmsb_alloc_libc, &mmsb_io_posix, &s->shared, 0) == MMSB_OK,
          "core");
    s->patience.spin_ns = 20000;
    use_log(s);
    for (uint64_t id = 1; id <= PAGES; id++)
        CHECK(mmsb_core_load_page(&s->core, id, PAGE_BYTES, 0, 0, 0, NULL, 0) == MMSB_OK, "page");
}

static void close_stage(stage *s) {
    mmsb_client_release(&s->client);
    mmsb_core_release(&s->core);
    munmap(s->log, SEGMENT_BYTES);
    munmap(s->sleeping, 4096);
    close(s->bell);
}

/* One turn. What the core does not do by itself is refused, except that a full log begins anew. */
static int serve(stage *s) {
    mmsb_turn turn = {.direct = true, .merges = true, .records = 256, .bytes = 1 << 16};
    for (;;) {
        int status = mmsb_client_serve(&s->client, &s->core, &turn);
        if (status != MMSB_SERVED_COMMAND) return status;
        if (s->core.active.capacity - s->core.active.tail < 1 << 20) {
            use_log(s);
            continue;
        }
        s->handed_up++;
        mmsb_completion answer = {.status = MMSB_COMPLETION_FAILED};
        static const uint8_t facts[MMSB_COMPLETION_BYTES_MAX - sizeof answer];
        mmsb_client_complete(&s->client, &answer, facts, (uint32_t)(random_u64() % sizeof facts));
        mmsb_client_publish(&s->client);
    }
}

/* Serves until `until` commands are done, and sleeps when there is nothing to do. A lost wake-up ends the program. */
static void serve_until(stage *s, uint64_t until) {
    while (s->client.number < until) {
        int status = serve(s);
        CHECK(status >= 0, "broken: %s", s->client.broken);
        mmsb_client *client = &s->client;
        bool more = s->client.number == until || mmsb_clients_await(&client, 1, &s->patience);
        if (more) continue;
        mmsb_ring_fall_asleep(s->sleeping);
        if (!mmsb_client_is_ready(&s->client)) {
            struct pollfd bell = {.fd = s->bell, .events = POLLIN};
            CHECK(poll(&bell, 1, 20000) == 1, "the owner was never woken, at command %lu",
                  (unsigned long)s->client.number);
        }
        mmsb_ring_stay_awake(s->sleeping);
        uint64_t rung;
        (void)!read(s->bell, &rung, sizeof rung);
    }
}

/* ---- the other side */

typedef struct sender {
    mmsb_memory memory;
    mmsb_ring_end commands, completions;
    mmsb_ring_shared *shared;
    const uint32_t *sleeping;
    int bell;
    uint64_t number, acknowledged, seq;
    mmsb_buffer record;
    mmsb_patience patience;
} sender;

/* `seq`: where the owner stood when nobody served yet; it moves while a sender opens. */
static void open_sender(sender *c, const stage *s, uint64_t seq) {
    memset(c, 0, sizeof *c);
    CHECK(mmsb_ring_map(&c->memory, dup(s->client.memory.fd)) == MMSB_OK, "map");
    mmsb_ring_ends(&c->memory, &c->commands, &c->completions);
    c->shared = (mmsb_ring_shared *)(void *)c->memory.base;
    c->sleeping = s->sleeping;
    c->bell = s->bell;
    c->seq = seq;
    c->patience.spin_ns = 20000;
}

static void close_sender(sender *c) {
    mmsb_buffer_release(&c->record, &mmsb_alloc_libc);
    mmsb_memory_release(&c->memory);
}

/* Takes the completions that are there; each must be the next one, and commits follow each other. */
static void take_completions(sender *c) {
    int status;
    while ((status = mmsb_ring_take(&c->completions, &mmsb_alloc_libc, &c->record)) == MMSB_OK) {
        mmsb_completion completion;
        memcpy(&completion, c->record.data, sizeof completion);
        CHECK(completion.number == c->acknowledged + 1, "acknowledged twice or out of order");
        CHECK(completion.status != MMSB_COMPLETION_DONE || completion.seq == c->seq + 1, "commits out of order");
        if (completion.status == MMSB_COMPLETION_DONE) c->seq = completion.seq;
        c->acknowledged++;
    }
    CHECK(status == MMSB_END, "the owner broke the protocol: %s", c->completions.broken);
    mmsb_ring_release(&c->completions);
    mmsb_ring_call_owner(c->sleeping, c->bell);
}

static void await(sender *c) {
    uint64_t seen = c->completions.there;
    if (!mmsb_ring_await_owner(c->shared, seen, &c->patience, WAIT_NS)) {
        CHECK(mmsb_ring_await_owner(c->shared, seen, &c->patience, 20ull * WAIT_NS),
              "the client was never woken, at %lu", (unsigned long)c->acknowledged);
    }
    take_completions(c);
}

/* Command n writes n into slot n of the pages, over and over, followed by bytes that depend on n. */
static uint64_t length_of(uint64_t n) { return 8 + n * 2654435761u % 57; }
static uint64_t offset_of(uint64_t n) { return n * 64 % PAGE_BYTES; }
static uint64_t page_of(uint64_t n) { return 1 + n / (PAGE_BYTES / 64) % PAGES; }
static void fill(uint8_t *bytes, uint64_t n) {
    mmsb_store_u64(bytes, n);
    for (uint64_t i = 8; i < length_of(n); i++) bytes[i] = (uint8_t)(n * i);
}

static void put(sender *c, uint64_t length) {
    uint64_t n = ++c->number, bytes = sizeof(mmsb_command_head) + length;
    uint8_t *record;
    while ((record = mmsb_ring_reserve(&c->commands, bytes)) == NULL) {
        CHECK(c->commands.broken == NULL, "%s", c->commands.broken);
        mmsb_ring_publish(&c->commands);
        mmsb_ring_call_owner(c->sleeping, c->bell);
        take_completions(c);
        if (mmsb_ring_reserve(&c->commands, bytes) == NULL) await(c);
    }
    mmsb_command_head head = {.number = n, .page_id = page_of(n), .at = offset_of(n)};
    memcpy(record, &head, sizeof head);
    uint8_t content[64] = {0};
    fill(content, n);
    memcpy(record + sizeof head, content, length);
    mmsb_ring_put(&c->commands, record, (uint32_t)bytes, MMSB_COMMAND_WRITE, 0, 0);
}

static void send_published(sender *c) {
    mmsb_ring_publish(&c->commands);
    mmsb_ring_call_owner(c->sleeping, c->bell);
}

/* Sends `count` commands in bunches of random size, and now and then waits until all are acknowledged. */
static void send_all(sender *c, uint64_t count) {
    while (c->number < count) {
        for (uint64_t bunch = 1 + random_u64() % 200; bunch > 0 && c->number < count; bunch--)
            put(c, length_of(c->number + 1));
        send_published(c);
        if (random_u64() % 4 == 0) take_completions(c);
        if (random_u64() % 8 == 0)
            while (c->acknowledged < c->number) await(c);
    }
    while (c->acknowledged < c->number) await(c);
}

/* The pages hold what the first `count` commands wrote, and no byte more. */
static void check_pages(const stage *s, uint64_t count) {
    static uint8_t model[PAGES + 1][PAGE_BYTES];
    memset(model, 0, sizeof model);
    for (uint64_t n = 1; n <= count; n++) fill(model[page_of(n)] + offset_of(n), n);
    for (uint64_t id = 1; id <= PAGES; id++) {
        const mmsb_page_header *header = mmsb_arena_header(&s->core.arena, id);
        CHECK(memcmp(mmsb_arena_bytes(&s->core.arena, header->handle), model[id], PAGE_BYTES) == 0, "page %lu is wrong",
              (unsigned long)id);
    }
    CHECK(s->core.seq == count, "%lu commits of %lu commands", (unsigned long)s->core.seq, (unsigned long)count);
}

typedef struct errand {
    stage *s;
    uint64_t count, seq;
} errand;

static void *run_sender(void *given) {
    const errand *e = given;
    sender c;
    open_sender(&c, e->s, e->seq);
    send_all(&c, e->count);
    close_sender(&c);
    return NULL;
}

static void test_threads(uint64_t count) {
    stage s;
    open_stage(&s);
    open_ring(&s, COMMAND_BYTES, COMPLETION_BYTES);
    errand e = {&s, count, s.core.seq};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_sender, &e) == 0, "thread");
    serve_until(&s, count);
    pthread_join(thread, NULL);
    check_pages(&s, count);
    close_stage(&s);
}

static void test_processes(uint64_t count) {
    stage s;
    open_stage(&s);
    open_ring(&s, MMSB_RING_BYTES_MIN * 2, MMSB_RING_BYTES_MIN * 2); /* small: both sides run out of room */
    pid_t child = fork();
    if (child == 0) {
        errand e = {&s, count, s.core.seq};
        run_sender(&e);
        _exit(0);
    }
    serve_until(&s, count);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the client failed");
    check_pages(&s, count);
    close_stage(&s);
}

/* A client dies at any instant: what it published is applied, whole, and nothing else. */
static void test_kill(uint64_t rounds) {
    for (uint64_t round = 0; round < rounds; round++) {
        stage s;
        open_stage(&s);
        open_ring(&s, COMMAND_BYTES, COMPLETION_BYTES);
        seed = SEED + round;
        pid_t child = fork();
        if (child == 0) {
            sender c;
            open_sender(&c, &s, s.core.seq);
            send_all(&c, UINT64_MAX);
        }
        double end = now_ns() + (double)(random_u64() % 3000000);
        while (now_ns() < end) CHECK(serve(&s) >= 0, "broken: %s", s.client.broken);
        kill(child, SIGKILL);
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "not killed");
        while (mmsb_client_is_ready(&s.client)) CHECK(serve(&s) >= 0, "broken: %s", s.client.broken);
        /* A client that takes no completions any more keeps its last commands to itself. */
        check_pages(&s, s.client.number);
        CHECK(s.client.taken == false && s.handed_up == 0, "half a command");
        close_stage(&s);
    }
}

/* ---- a client that means harm */

static volatile bool stop_scribbling;

static uint64_t next(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

/* Random words over the whole ring, and indices that are nearly right. */
static void *scribble(void *given) {
    const stage *s = given;
    mmsb_ring_shared *shared = s->client.shared;
    uint64_t *words = (uint64_t *)(void *)s->client.memory.base, count = s->client.memory.bytes / 8,
             x = SEED ^ s->core.seq;
    while (!stop_scribbling) {
        uint64_t kind = next(&x) % 8, tail = shared->command_tail;
        uint64_t lies[] = {x, 0, tail - 8, tail + s->client.commands.capacity + 8};
        if (kind < 4) __atomic_store_n(&words[(x >> 8) % count], x * 7, __ATOMIC_RELAXED);
        if (kind == 4) __atomic_store_n(&shared->command_tail, tail + x % 64 * 8, __ATOMIC_RELEASE);
        if (kind == 5) __atomic_store_n(&shared->completion_head, shared->completion_tail, __ATOMIC_RELEASE);
        if (kind == 6) __atomic_store_n(&shared->waiting, (uint32_t)x, __ATOMIC_RELAXED);
        if (kind == 7 && (x >> 20) % 64 == 0)
            __atomic_store_n(x & 64 ? &shared->command_tail : &shared->completion_head, lies[x >> 7 & 3],
                             __ATOMIC_RELEASE);
        if (x % 64 == 0) sched_yield();
    }
    return NULL;
}

/* Keeps to the protocol of the ring, sends nonsense in it, and changes what it has sent. */
static void *send_nonsense(void *given) {
    stage *s = given;
    sender c;
    open_sender(&c, s, s->core.seq);
    uint64_t x = SEED ^ s->core.seq, pick[] = {0, 1, 40, 4096, PAGE_BYTES - 8, 0xffff, UINT64_MAX, (uint64_t)1 << 63};
    while (!stop_scribbling) {
        uint64_t bytes = next(&x) % 8 == 0 ? 8 + x % 64 : sizeof(mmsb_command_head) + x % 160;
        uint8_t *record = mmsb_ring_reserve(&c.commands, bytes);
        if (record == NULL) {
            while (mmsb_ring_take(&c.completions, &mmsb_alloc_libc, &c.record) == MMSB_OK) continue;
            mmsb_ring_release(&c.completions);
            mmsb_ring_publish(&c.commands);
            sched_yield();
            continue;
        }
        bool wild = next(&x) % 4 == 0;
        mmsb_command_head head = {.page_id = wild ? pick[x & 7] : 1 + (x & 7), .at = pick[x >> 3 & 7]};
        head.number = ++c.number;
        head.if_epoch = wild ? pick[x >> 6 & 7] : 1;
        head.source_bytes = wild ? (uint16_t)pick[x >> 9 & 7] : 0;
        head.intent_bytes = wild ? (uint32_t)pick[x >> 12 & 7] : 0;
        memcpy(record, &head, mmsb_min_u64(bytes, sizeof head));
        for (uint64_t i = sizeof head; i < bytes; i++) record[i] = (uint8_t)(next(&x) >> 20);
        uint8_t kind = (uint8_t)(next(&x) & 1 ? MMSB_COMMAND_WRITE : 1 + x % 12);
        mmsb_ring_put(&c.commands, record, (uint32_t)bytes, kind, (uint8_t)(wild ? x >> 40 : 0), 0);
        mmsb_ring_publish(&c.commands);
        /* The number stays as it is: a wrong one would end the connection. */
        for (uint64_t i = 16; i + 8 <= bytes; i += 8)
            if (next(&x) % 4 == 0) mmsb_store_u64(record + i, pick[x & 7]);
    }
    close_sender(&c);
    return NULL;
}

#ifdef __SANITIZE_THREAD__
enum { HOSTILE = 0 }; /* a client that writes while its commands are read races on purpose */
#else
enum { HOSTILE = 1 };
#endif

static void test_hostile(uint64_t rounds) {
    stage s;
    open_stage(&s);
    uint64_t commands = 0, dropped = 0;
    for (uint64_t round = 0; round < rounds * 20; round++) {
        open_ring(&s, MMSB_RING_BYTES_MIN << round % 4, MMSB_RING_BYTES_MIN << round % 3);
        s.client.rights.every_page = round & 1;
        s.client.rights.creates = round & 2;
        CHECK(mmsb_rights_add(&s.client.rights, &mmsb_alloc_libc, 1, PAGES / 2) == MMSB_OK, "rights");
        stop_scribbling = false;
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, round % 3 ? send_nonsense : scribble, &s) == 0, "thread");
        double end = now_ns() + 2e6;
        while (s.client.broken == NULL && now_ns() < end) {
            uint64_t seq = s.core.seq, number = s.client.number;
            int status = serve(&s);
            CHECK((status == MMSB_RING_BROKEN) == (s.client.broken != NULL), "status %d", status);
            CHECK(s.core.seq - seq <= s.client.number - number, "commits that nobody asked for");
        }
        stop_scribbling = true;
        pthread_join(thread, NULL);
        CHECK(round % 3 == 0 || s.client.broken == NULL, "%s", s.client.broken);
        commands += s.client.number;
        dropped += s.client.broken != NULL;
        mmsb_client_release(&s.client);
        memset(&s.client, 0, sizeof s.client);
    }
    uint64_t epochs = 0;
    for (uint64_t id = 1; id <= PAGES; id++) epochs += mmsb_arena_header(&s.core.arena, id)->epoch;
    const char *why = "";
    CHECK(mmsb_arena_check(&s.core.arena, &why) == MMSB_OK, "%s", why);
    CHECK(epochs == s.core.seq && s.core.page_count == PAGES && !s.core.poisoned, "the core was harmed");
    printf("hostile: %lu commands, %lu applied, %lu of %lu clients dropped\n", (unsigned long)commands,
           (unsigned long)s.core.seq, (unsigned long)dropped, (unsigned long)rounds * 20);
    close_stage(&s);
}

/* Malformed records one by one: refused, and parsed without a step outside (the copy ends where the record does). */
static void test_parse(void) {
    for (uint64_t i = 0; i < 200000; i++) {
        uint64_t bytes = random_u64() % 400;
        uint8_t *record = malloc(bytes + 1);
        for (uint64_t k = 0; k < bytes; k++) record[k] = random_u64() % 3 ? 0 : (uint8_t)random_u64();
        if (bytes >= 8) mmsb_store_u64(record, bytes | (1 + random_u64() % 12) << 32);
        if (bytes >= 104) mmsb_store_u64(record + 48, (48 + random_u64() % 64) | (1 + random_u64() % 10) << 32);
        mmsb_command command, op;
        if (mmsb_command_parse(record, bytes, &command) == MMSB_OK) {
            mmsb_rights rights = {0};
            mmsb_refusal why;
            uint64_t at = 0;
            CHECK(mmsb_rights_check(&rights, &command, &why) == MMSB_NO_RIGHT || command.head.kind >= 10, "rights");
            if (command.head.kind == MMSB_COMMAND_BATCH)
                while (mmsb_command_next(&command, &at, &op) == MMSB_OK)
                    CHECK(op.data_bytes <= bytes, "longer than all");
        }
        free(record);
    }
}

/* ---- speed */

/* Time that this thread spent on a processor, which others may share. */
static double used_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *run_bench_sender(void *given) {
    const errand *e = given;
    sender c;
    open_sender(&c, e->s, e->seq);
    while (c.number < e->count) {
        for (int i = 0; i < 64; i++) put(&c, 64);
        send_published(&c);
        take_completions(&c);
    }
    while (c.acknowledged < c.number) await(&c);
    close_sender(&c);
    printf("client: %.0f ns of its processor per command\n", used_ns() / (double)e->count);
    return NULL;
}

static void bench(void) {
    uint64_t count = 2000000;
    stage s;
    open_stage(&s);
    mmsb_commit_info info = {.if_epoch = MMSB_ANY_EPOCH};
    mmsb_written written;
    uint8_t content[64] = {0};
    double begin = now_ns();
    for (uint64_t n = 1; n <= count; n++) {
        fill(content, n);
        if (s.core.active.capacity - s.core.active.tail < 4096) use_log(&s);
        CHECK(mmsb_core_write(&s.core, page_of(n), offset_of(n), content, 64, &info, &written) >= 0, "write");
    }
    double alone = now_ns() - begin;
    open_ring(&s, 1 << 20, 1 << 18);
    errand e = {&s, count, s.core.seq};
    pthread_t thread;
    begin = now_ns();
    double used = used_ns();
    CHECK(pthread_create(&thread, NULL, run_bench_sender, &e) == 0, "thread");
    serve_until(&s, count);
    pthread_join(thread, NULL);
    double ring = now_ns() - begin;
    printf("owner: %.0f ns of its processor per command\n", (used_ns() - used) / (double)count);
    printf("64-byte writes: core alone %.2f M/s, through a ring %.2f M/s, ratio %.2f\n", (double)count / alone * 1e3,
           (double)count / ring * 1e3, alone / ring);
    close_stage(&s);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    if (rounds == 0) rounds = 5;
    test_parse();
    test_threads(rounds * 20000);
    test_processes(rounds * 5000);
    test_kill(rounds * 5);
    if (HOSTILE) test_hostile(rounds);
    printf("ring: %lu rounds\n", (unsigned long)rounds);
    return 0;
}
