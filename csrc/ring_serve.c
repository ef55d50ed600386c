#include "ring_serve.h"

/* So many completions are shown at once: each time costs a fence and two cache lines that the client is reading. */
#define PUBLISH_COUNT 64

int mmsb_client_init(mmsb_client *client, const mmsb_alloc *alloc, uint64_t command_bytes, uint64_t completion_bytes) {
    *client = (mmsb_client){.alloc = alloc, .memory.fd = -1};
    int status = mmsb_ring_create(&client->memory, command_bytes, completion_bytes);
    if (status != MMSB_OK) return status;
    client->shared = (mmsb_ring_shared *)(void *)client->memory.base;
    mmsb_ring_ends(&client->memory, &client->commands, &client->completions);
    return MMSB_OK;
}

void mmsb_client_release(mmsb_client *client) {
    if (client->alloc == NULL) return;
    mmsb_buffer_release(&client->record, client->alloc);
    mmsb_buffer_release(&client->rights.pages, client->alloc);
    mmsb_memory_release(&client->memory);
}

/* A command is taken only when the longest completion has room, so that none ever has to wait for it. */
static uint8_t *room_for_completion(mmsb_client *client) {
    if (client->gone) client->completions.there = client->completions.here;
    return mmsb_ring_reserve(&client->completions, MMSB_COMPLETION_BYTES_MAX);
}

bool mmsb_client_is_ready(mmsb_client *client) {
    if (client->broken != NULL) return false;
    if (client->taken) return true;
    if (mmsb_ring_pending(&client->commands) == 0) return false;
    return room_for_completion(client) != NULL || client->completions.broken != NULL;
}

void mmsb_client_publish(mmsb_client *client) {
    client->unpublished = 0;
    /* Room first: a client that waits for room waits for completions. */
    mmsb_ring_release(&client->commands);
    mmsb_ring_publish(&client->completions);
    mmsb_ring_wake_client(client->shared);
}

void mmsb_client_complete(mmsb_client *client, const mmsb_completion *answer, const uint8_t *facts,
                          uint32_t facts_bytes) {
    uint8_t *record = room_for_completion(client);
    mmsb_completion completion = *answer;
    completion.number = client->number;
    memcpy(record, &completion, sizeof completion);
    if (facts_bytes != 0) memcpy(record + sizeof completion, facts, facts_bytes);
    mmsb_ring_put(&client->completions, record, (uint32_t)sizeof completion + facts_bytes, MMSB_COMPLETION,
                  answer->status, 0);
    client->failed += answer->status == MMSB_COMPLETION_FAILED;
    client->taken = false;
    if (++client->unpublished >= PUBLISH_COUNT) mmsb_client_publish(client);
}

void mmsb_client_know_source(mmsb_client *client, uint32_t index) {
    uint32_t bytes = client->command.head.source_bytes;
    if (bytes > MMSB_CLIENT_SOURCE_MAX) return;
    memcpy(client->source, client->command.source, bytes);
    client->source_bytes = bytes;
    client->source_index = index;
}

/* Takes the next command apart and judges it. */
static int take(mmsb_client *client) {
    if (room_for_completion(client) == NULL) {
        client->broken = client->completions.broken;
        return client->broken != NULL ? MMSB_RING_BROKEN : MMSB_SERVED_FULL;
    }
    int status = mmsb_ring_take(&client->commands, client->alloc, &client->record);
    if (status == MMSB_RING_BROKEN) client->broken = client->commands.broken;
    if (status != MMSB_OK) return status;
    client->number++;
    client->taken = true;
    client->verdict = mmsb_command_parse(client->record.data, client->record.size, &client->command);
    if (client->verdict != MMSB_OK) return MMSB_OK;
    if (client->command.head.number != client->number) {
        client->broken = "it does not number its commands one after another";
        return MMSB_RING_BROKEN;
    }
    client->verdict = mmsb_rights_check(&client->rights, &client->command, &client->refusal);
    return MMSB_OK;
}

/* Whether a command is a write after which nothing but the write has to happen. */
static bool is_plain(const mmsb_client *client, const mmsb_core *core, const mmsb_turn *turn) {
    const mmsb_command_head *head = &client->command.head;
    if (!turn->direct || client->verdict != MMSB_OK || head->kind != MMSB_COMMAND_WRITE) return false;
    if (head->intent_bytes != 0 || head->durability == MMSB_COMMAND_POWER || core->touched.size != 0) return false;
    if (head->source_bytes != 0 && (head->source_bytes != client->source_bytes ||
                                    memcmp(client->command.source, client->source, head->source_bytes) != 0))
        return false;
    const mmsb_page_header *header = mmsb_arena_header(&core->arena, head->page_id);
    if (header == NULL) return false;
    if (header->flags & (MMSB_PAGE_SOURCE | MMSB_PAGE_DERIVED | MMSB_PAGE_STALE | MMSB_PAGE_FAILED)) return false;
    return header->kind != MMSB_PAGE_KIND_MERGE || (turn->merges && !(head->flags & MMSB_COMMAND_IF_EPOCH));
}

/* Writes. False when the core did not do it, for whatever reason: then it is for the caller to find out by doing the
 * same once more in the ordinary way. */
static bool write_plainly(mmsb_client *client, mmsb_core *core, mmsb_turn *turn) {
    const mmsb_command *command = &client->command;
    bool from_source = command->head.source_bytes != 0;
    mmsb_commit_info info = {
        .if_epoch = MMSB_ANY_EPOCH,
        .source = from_source ? client->source_index : 0,
        .source_name = command->source,
        .source_bytes = command->head.source_bytes,
    };
    /* The largest number is no epoch, and says in here that any will do. */
    if (command->head.flags & MMSB_COMMAND_IF_EPOCH)
        info.if_epoch = mmsb_min_u64(command->head.if_epoch, MMSB_ANY_EPOCH - 1);
    mmsb_written written;
    int status = mmsb_core_write(core, command->head.page_id, command->head.at, command->data, command->data_bytes,
                                 &info, &written);
    if (status < 0) return false;
    mmsb_completion answer = {.status = MMSB_COMPLETION_UNCHANGED};
    if (status > 0) answer = (mmsb_completion){.seq = written.seq, .epoch = written.epoch};
    turn->commits += (uint64_t)status;
    mmsb_client_complete(client, &answer, NULL, 0);
    return true;
}

int mmsb_client_serve(mmsb_client *client, mmsb_core *core, mmsb_turn *turn) {
    int status = MMSB_OK;
    for (;;) {
        if (!client->taken) {
            if (turn->records == 0 || turn->bytes == 0) {
                status = MMSB_SERVED_TURN;
                break;
            }
            status = take(client);
            if (status == MMSB_END) status = MMSB_SERVED_ALL;
            if (!client->taken || status != MMSB_OK) break;
            turn->records--;
            turn->bytes -= mmsb_min_u64(turn->bytes, client->record.size);
        }
        if (!is_plain(client, core, turn) || !write_plainly(client, core, turn)) {
            status = MMSB_SERVED_COMMAND;
            break;
        }
    }
    if (client->unpublished != 0) mmsb_client_publish(client);
    return status;
}
