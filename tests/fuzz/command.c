/* A command of a client: its parts, put behind one another again, are the record; and what a client may do is decided
 * as by a list of every page that the command names. */
#include "../../csrc/command.h"
#include "fuzz.h"

/* Writes a part and checks that it stands where the record goes on. */
static const uint8_t *pass(const uint8_t *at, const uint8_t *part, uint64_t bytes, const uint8_t *end) {
    if (bytes == 0) return at;
    CHECK(part == at && bytes <= (uint64_t)(end - at), "a part stands elsewhere");
    return at + bytes;
}

static void check_parts(const uint8_t *record, uint64_t bytes, const mmsb_command *c) {
    const uint8_t *end = record + bytes, *at = record + sizeof c->head;
    CHECK(memcmp(record, &c->head, sizeof c->head) == 0 && c->head.bytes == bytes, "another head");
    at = pass(at, c->source, c->head.source_bytes, end);
    at = pass(at, c->intent, c->head.intent_bytes, end);
    at = pass(at, c->name, c->name_bytes, end);
    at = pass(at, c->rule, c->rule_bytes, end);
    at = pass(at, c->metadata, c->metadata_bytes, end);
    if (c->numbers != NULL) at = pass(at, c->numbers, c->head.if_epoch * 24, end);
    at = pass(at, c->data, c->data_bytes, end);
    CHECK(at == end, "%ld bytes belong to nothing", (long)(end - at));
    CHECK(c->head.source_bytes <= MMSB_COMMAND_SOURCE_MAX && c->name_bytes <= MMSB_COMMAND_NAME_MAX &&
              c->rule_bytes <= MMSB_COMMAND_RULE_MAX,
          "longer than it may be");
    if (c->head.kind == MMSB_COMMAND_CREATE)
        CHECK(mmsb_command_lengths((uint32_t)c->name_bytes, (uint32_t)c->rule_bytes, (uint32_t)c->metadata_bytes) ==
                  c->head.if_epoch,
              "other lengths");
}

/* Whether somebody who may change pages 1 to 4, and with `rights` create and delete, may do this. */
static bool allowed(const mmsb_rights *rights, const mmsb_command *c) {
    bool known = (c->head.page_id >= 1 && c->head.page_id <= 4) || rights->every_page;
    bool own = (c->head.page_id & MMSB_COMMAND_CREATED) != 0;
    mmsb_command op;
    uint64_t at = 0;
    switch (c->head.kind) {
        case MMSB_COMMAND_CREATE:
        case MMSB_COMMAND_CREATE_MANY:
            return rights->creates;
        case MMSB_COMMAND_DELETE:
            return own || (known && rights->deletes);
        case MMSB_COMMAND_WRITE_MANY:
            for (uint64_t i = 0; i < c->head.if_epoch; i++) {
                uint64_t id = mmsb_load_u64(c->numbers + i * 8);
                if (!rights->every_page && !(id & MMSB_COMMAND_CREATED) && (id < 1 || id > 4)) return false;
            }
            return true;
        case MMSB_COMMAND_BATCH:
            while (mmsb_command_next(c, &at, &op) == MMSB_OK)
                if (!allowed(rights, &op)) return false;
            return true;
        default:
            return own || known;
    }
}

static void check_batch(const mmsb_command *batch) {
    mmsb_command op;
    uint64_t at = 0, before = 0, count = 0;
    for (; mmsb_command_next(batch, &at, &op) == MMSB_OK; before = at, count++) {
        CHECK(at - before == mmsb_align_up(op.head.bytes, 8) && at <= batch->data_bytes, "a part of another length");
        CHECK(op.head.kind != MMSB_COMMAND_BATCH && op.head.number == 0, "a batch in a batch");
        check_parts(batch->data + before, op.head.bytes, &op);
    }
    CHECK(count == batch->head.if_epoch && before == batch->data_bytes, "%lu parts", (unsigned long)count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script s = {data, data + size};
    uint8_t how = next_byte(&s);
    uint64_t bytes;
    uint8_t *record = next_block(&s, left_of(&s), &bytes);
    if (how & 1 && bytes >= sizeof(mmsb_command_head)) mmsb_store_u32(record, (uint32_t)bytes);
    mmsb_command command;
    int status = mmsb_command_parse(record, bytes, &command);
    CHECK(status == MMSB_OK || status == MMSB_BAD_COMMAND, "status %d", status);
    if (status == MMSB_OK) {
        check_parts(record, bytes, &command);
        if (command.head.kind == MMSB_COMMAND_BATCH) check_batch(&command);
        static const uint64_t pages[] = {1, 2, 3, 4};
        mmsb_rights rights = {.every_page = how & 2, .creates = how & 4, .deletes = how & 8};
        rights.pages = (mmsb_buffer){.data = exact_copy((const uint8_t *)pages, sizeof pages), .size = sizeof pages};
        mmsb_refusal why;
        CHECK((mmsb_rights_check(&rights, &command, &why) == MMSB_OK) == allowed(&rights, &command), "rights");
        free(rights.pages.data);
    }
    free(record);
    return 0;
}
