#define _GNU_SOURCE
#include "sharing.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include "bell.h"

/* More than this in slots that nobody but a slow reader wants, and that reader is dropped. Half of all slots comes on
 * top where no max_bytes is set: of a page of any size a few former slots may wait. */
#define KEPT_BYTES_MOST ((uint64_t)64 << 20)

void mmsb_sharing_init(mmsb_sharing *sharing, mmsb_arena *arena, mmsb_shared *shared, const mmsb_alloc *alloc) {
    *sharing = (mmsb_sharing){.arena = arena, .shared = shared, .alloc = alloc, .next_number = 1};
    sharing->kept_bytes_most = KEPT_BYTES_MOST;
    if (arena->max_bytes != 0) sharing->kept_bytes_most = mmsb_min_u64(KEPT_BYTES_MOST, arena->max_bytes / 8);
}

/* ---- slots */

/* The oldest position at which a read may still be under way. */
static uint64_t oldest_reading(const mmsb_sharing *sharing) {
    uint64_t oldest = MMSB_NOT_READING;
    for (uint32_t i = 0; i < sharing->client_count; i++) {
        const mmsb_attached *client = &sharing->clients[i];
        if (client->dropped) continue;
        oldest = mmsb_min_u64(oldest, __atomic_load_n(&client->words->reading, __ATOMIC_ACQUIRE));
    }
    return oldest;
}

static void give_back(mmsb_sharing *sharing, uint64_t until) {
    while (sharing->kept_at < sharing->kept.size) {
        const mmsb_kept_slot *slot = (const mmsb_kept_slot *)(const void *)(sharing->kept.data + sharing->kept_at);
        if (slot->position > until) return;
        sharing->kept_at += sizeof *slot;
        sharing->kept_bytes -= slot->size;
        mmsb_arena_give(sharing->arena, slot->handle, slot->size);
    }
    sharing->kept.size = sharing->kept_at = 0;
}

/* Gives back what nobody reads. Clients that keep too much are dropped: one that reads on finds its number gone from
 * `admitted`, after its last look at the bytes and before it believes them. */
void mmsb_sharing_reclaim(mmsb_sharing *sharing) {
    if (MMSB_LIKELY(sharing->kept_at == sharing->kept.size)) return;
    /* After the headers were changed; a client's fence is between its word and its look at a header. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    give_back(sharing, oldest_reading(sharing));
    uint64_t most = sharing->kept_bytes_most + (sharing->arena->max_bytes == 0 ? sharing->arena->bytes_held / 2 : 0);
    if (MMSB_LIKELY(sharing->kept_bytes <= most)) return;
    const mmsb_kept_slot *last = (const mmsb_kept_slot *)(const void *)(sharing->kept.data + sharing->kept.size) - 1;
    uint64_t until = last->position;
    for (uint32_t i = 0; i < sharing->client_count; i++) {
        mmsb_attached *client = &sharing->clients[i];
        if (__atomic_load_n(&client->words->reading, __ATOMIC_ACQUIRE) < until) mmsb_sharing_drop(sharing, client);
    }
    give_back(sharing, until);
}

void mmsb_sharing_give(mmsb_sharing *sharing, uint64_t handle, uint64_t size) {
    if (sharing->kept_at != 0 && sharing->kept_at * 2 > sharing->kept.size) {
        memmove(sharing->kept.data, sharing->kept.data + sharing->kept_at, sharing->kept.size - sharing->kept_at);
        sharing->kept.size -= sharing->kept_at;
        sharing->kept_at = 0;
    }
    if (!mmsb_buffer_reserve(&sharing->kept, sharing->alloc, sharing->kept.size + sizeof(mmsb_kept_slot))) {
        /* Without memory to note it there is no telling when: nobody may be reading then. */
        for (uint32_t i = 0; i < sharing->client_count; i++) mmsb_sharing_drop(sharing, &sharing->clients[i]);
        mmsb_arena_give(sharing->arena, handle, size);
        return;
    }
    mmsb_kept_slot *slot = (mmsb_kept_slot *)(void *)(sharing->kept.data + sharing->kept.size);
    *slot = (mmsb_kept_slot){handle, size, sharing->shared->tail};
    sharing->kept.size += sizeof *slot;
    sharing->kept_bytes += size;
}

void mmsb_sharing_release(mmsb_sharing *sharing) {
    mmsb_buffer_release(&sharing->kept, sharing->alloc);
    sharing->client_count = 0;
    sharing->kept_at = sharing->kept_bytes = 0;
}

/* ---- clients */

int mmsb_sharing_add(mmsb_sharing *sharing, int fd, const mmsb_words *words) {
    uint32_t place = 0;
    while (place < MMSB_CLIENTS_MAX && sharing->shared->admitted[place] != 0) place++;
    if (place == MMSB_CLIENTS_MAX || sharing->client_count == MMSB_CLIENTS_MAX) return MMSB_BAD_SIZE;
    if (sharing->client_count == 0) {
        mmsb_arena_note_changes(sharing->arena);
        sharing->chunks_told = sharing->arena->chunk_count;
    } else {
        mmsb_sharing_announce(sharing); /* so that nothing is told twice */
    }
    uint64_t number = sharing->next_number++;
    sharing->clients[sharing->client_count] =
        (mmsb_attached){.fd = fd, .place = place, .number = number, .words = words};
    __atomic_store_n(&sharing->shared->admitted[place], number, __ATOMIC_RELEASE);
    return (int)sharing->client_count++;
}

void mmsb_sharing_drop(mmsb_sharing *sharing, mmsb_attached *client) {
    if (client->dropped) return;
    client->dropped = true;
    sharing->drops++;
    __atomic_store_n(&sharing->shared->admitted[client->place], 0, __ATOMIC_SEQ_CST);
    (void)shutdown(client->fd, SHUT_RDWR);
}

void mmsb_sharing_remove(mmsb_sharing *sharing, int fd) {
    for (uint32_t i = 0; i < sharing->client_count; i++) {
        mmsb_attached *client = &sharing->clients[i];
        if (client->fd != fd) continue;
        /* A dropped one has no place any more, and somebody else may have it. */
        if (!client->dropped) __atomic_store_n(&sharing->shared->admitted[client->place], 0, __ATOMIC_SEQ_CST);
        *client = sharing->clients[--sharing->client_count];
        break;
    }
    mmsb_sharing_reclaim(sharing);
}

/* ---- telling */

static bool send_entries(int socket, uint64_t grown, const mmsb_entry *entries, const int *fds, uint32_t count,
                         uint32_t fd_count) {
    uint8_t header[MMSB_MESSAGE_HEADER_BYTES] = {0};
    memcpy(header + MMSB_MESSAGE_AT_MAGIC, MMSB_MESSAGE_MAGIC, 8);
    mmsb_store_u32(header + MMSB_MESSAGE_AT_KIND, MMSB_MESSAGE_REGIONS);
    mmsb_store_u32(header + MMSB_MESSAGE_AT_COUNT, count);
    mmsb_store_u64(header + MMSB_MESSAGE_AT_GROWN, grown);
    mmsb_store_u64(header + MMSB_MESSAGE_AT_LAYOUT, MMSB_SHARED_LAYOUT);
    struct iovec parts[2] = {{header, sizeof header}, {(void *)(uintptr_t)entries, count * sizeof *entries}};
    union {
        struct cmsghdr first;
        uint8_t bytes[CMSG_SPACE(MMSB_ENTRIES_MAX * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (fd_count != 0) {
        size_t bytes = fd_count * sizeof(int);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(bytes);
        memset(control.bytes, 0, message.msg_controllen);
        control.first.cmsg_level = SOL_SOCKET;
        control.first.cmsg_type = SCM_RIGHTS;
        control.first.cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(&control.first), fds, bytes);
    }
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* The descriptors of the entries that did not go, in their order. */
static uint32_t gather(const mmsb_entry *entries, const int *fds, uint32_t count, int *out) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!(entries[i].flags & MMSB_ENTRY_GONE)) out[n++] = fds[i];
    return n;
}

int mmsb_sharing_tell(mmsb_sharing *sharing, mmsb_attached *client, const mmsb_entry *entries, const int *fds,
                      uint32_t count) {
    int given[MMSB_ENTRIES_MAX];
    uint32_t given_count = gather(entries, fds, count, given);
    if (!client->dropped && send_entries(client->fd, sharing->shared->grown, entries, given, count, given_count))
        return MMSB_OK;
    mmsb_sharing_drop(sharing, client);
    return MMSB_IO;
}

/* The queue of a socket outlives its sender: what is sent here reaches the client even if the owner dies next. */
static void tell_everybody(mmsb_sharing *sharing, const mmsb_entry *entries, const int *fds, uint32_t count) {
    int given[MMSB_ENTRIES_MAX];
    uint32_t given_count = gather(entries, fds, count, given);
    uint64_t grown = sharing->shared->grown + 1;
    for (uint32_t i = 0; i < sharing->client_count; i++) {
        mmsb_attached *client = &sharing->clients[i];
        if (client->dropped) continue;
        if (!send_entries(client->fd, grown, entries, given, count, given_count)) mmsb_sharing_drop(sharing, client);
    }
    __atomic_store_n(&sharing->shared->grown, grown, __ATOMIC_RELEASE);
}

/* Gathers entries and passes them on by the message: to one client, or to everybody (client NULL). */
typedef struct gathered {
    mmsb_sharing *sharing;
    mmsb_attached *client;
    mmsb_entry entries[MMSB_ENTRIES_MAX];
    int fds[MMSB_ENTRIES_MAX];
    uint32_t count;
    int status;
} gathered;

static void pass_on(gathered *g) {
    if (g->count == 0) return;
    if (g->client == NULL)
        tell_everybody(g->sharing, g->entries, g->fds, g->count);
    else if (g->status == MMSB_OK)
        g->status = mmsb_sharing_tell(g->sharing, g->client, g->entries, g->fds, g->count);
    g->count = 0;
}

static void add_memory(gathered *g, uint32_t kind, uint32_t number, const mmsb_memory *memory) {
    bool gone = memory->base == NULL;
    g->entries[g->count] = (mmsb_entry){kind, number, gone ? 0 : memory->bytes, gone ? MMSB_ENTRY_GONE : 0};
    g->fds[g->count++] = memory->fd;
    if (g->count == MMSB_ENTRIES_MAX) pass_on(g);
}

int mmsb_sharing_tell_all(mmsb_sharing *sharing, mmsb_attached *client) {
    const mmsb_arena *arena = sharing->arena;
    gathered g = {.sharing = sharing, .client = client, .status = MMSB_OK};
    for (uint32_t i = 0; i < arena->chunk_count; i++) add_memory(&g, MMSB_REGION_HEADERS, i, &arena->chunk_memory[i]);
    for (uint32_t i = 1; i < arena->segment_count; i++)
        if (arena->segments[i].memory.base != NULL) add_memory(&g, MMSB_REGION_PAGES, i, &arena->segments[i].memory);
    pass_on(&g);
    return g.status;
}

void mmsb_sharing_announce(mmsb_sharing *sharing) {
    mmsb_arena *arena = sharing->arena;
    if (MMSB_LIKELY(arena->changed_end == 0 && arena->chunk_count == sharing->chunks_told)) return;
    gathered g = {.sharing = sharing, .status = MMSB_OK};
    for (uint32_t i = sharing->chunks_told; i < arena->chunk_count; i++)
        add_memory(&g, MMSB_REGION_HEADERS, i, &arena->chunk_memory[i]);
    for (uint32_t i = arena->changed_first; i < arena->changed_end; i++)
        add_memory(&g, MMSB_REGION_PAGES, i, &arena->segments[i].memory);
    pass_on(&g);
    sharing->chunks_told = arena->chunk_count;
    mmsb_arena_note_changes(arena);
}

void mmsb_sharing_log(mmsb_sharing *sharing, uint32_t number, int fd, uint64_t bytes) {
    mmsb_entry entry = {MMSB_REGION_LOG, number, bytes, fd < 0 ? MMSB_ENTRY_GONE : 0};
    tell_everybody(sharing, &entry, &fd, 1);
}

void mmsb_sharing_applied(mmsb_sharing *sharing) {
    mmsb_shared *shared = sharing->shared;
    /* A full fence: who is about to wait has said so before, or sees the bell changed. */
    __atomic_fetch_add(&shared->bell, 1, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < sharing->client_count; i++) {
        if (__atomic_load_n(&sharing->clients[i].words->waiting, __ATOMIC_RELAXED) == 0) continue;
        mmsb_bell_ring(&shared->bell);
        break;
    }
    mmsb_sharing_reclaim(sharing);
}
