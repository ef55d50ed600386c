#include "command.h"

/* Takes `bytes` from the front of a body. False when it is shorter. */
static bool cut(const uint8_t **body, uint64_t *left, uint64_t bytes, const uint8_t **part) {
    if (bytes > *left) return false;
    *part = *body;
    *body += bytes;
    *left -= bytes;
    return true;
}

static int parse_body(mmsb_command *command, const uint8_t *body, uint64_t left, bool inside) {
    const mmsb_command_head *head = &command->head;
    uint64_t count = head->if_epoch, at = 0;
    mmsb_command op;
    int status;
    switch (head->kind) {
        case MMSB_COMMAND_WRITE:
        case MMSB_COMMAND_ASSIGN:
        case MMSB_COMMAND_APPLY:
        case MMSB_COMMAND_CREATE_MANY:
        case MMSB_COMMAND_DELETE:
        case MMSB_COMMAND_RESIZE:
            break;
        case MMSB_COMMAND_CREATE:
            command->name_bytes = count & 0xfffff;
            command->rule_bytes = count >> 20 & 0xfff;
            command->metadata_bytes = count >> 32;
            if (command->name_bytes > MMSB_COMMAND_NAME_MAX ||
                !cut(&body, &left, command->name_bytes, &command->name) ||
                !cut(&body, &left, command->rule_bytes, &command->rule) ||
                !cut(&body, &left, command->metadata_bytes, &command->metadata))
                return MMSB_BAD_COMMAND;
            break;
        case MMSB_COMMAND_RENAME:
            if (left > MMSB_COMMAND_NAME_MAX) return MMSB_BAD_COMMAND;
            command->name = body;
            command->name_bytes = left;
            return MMSB_OK;
        case MMSB_COMMAND_METADATA:
            command->metadata = body;
            command->metadata_bytes = left;
            return MMSB_OK;
        case MMSB_COMMAND_WRITE_MANY:
            if (!inside || count > left / 24 || !cut(&body, &left, count * 24, &command->numbers))
                return MMSB_BAD_COMMAND;
            break;
        case MMSB_COMMAND_BATCH:
            command->name_bytes = head->at;
            if (inside || head->at > MMSB_COMMAND_NAME_MAX || !cut(&body, &left, head->at, &command->name))
                return MMSB_BAD_COMMAND;
            command->data = body;
            command->data_bytes = left;
            while ((status = mmsb_command_next(command, &at, &op)) == MMSB_OK) count--;
            return status == MMSB_END && count == 0 ? MMSB_OK : MMSB_BAD_COMMAND;
        default:
            return MMSB_BAD_COMMAND;
    }
    command->data = body;
    command->data_bytes = left;
    bool bare = head->kind >= MMSB_COMMAND_CREATE_MANY && head->kind <= MMSB_COMMAND_RESIZE;
    return bare && left != 0 ? MMSB_BAD_COMMAND : MMSB_OK;
}

static int parse(const uint8_t *record, uint64_t bytes, mmsb_command *command, bool inside) {
    memset(command, 0, sizeof *command);
    if (bytes < sizeof command->head) return MMSB_BAD_COMMAND;
    memcpy(&command->head, record, sizeof command->head);
    const mmsb_command_head *head = &command->head;
    const uint8_t *body = record + sizeof *head;
    uint64_t left = bytes - sizeof *head;
    if (head->bytes != bytes || head->reserved != 0 || (head->flags & ~MMSB_COMMAND_FLAGS) != 0 ||
        head->durability > MMSB_COMMAND_POWER || head->source_bytes > MMSB_COMMAND_SOURCE_MAX)
        return MMSB_BAD_COMMAND;
    if (!cut(&body, &left, head->source_bytes, &command->source) ||
        !cut(&body, &left, head->intent_bytes, &command->intent))
        return MMSB_BAD_COMMAND;
    /* The parts of a batch have no number, source, intent or durability of their own, and only they name new pages. */
    bool own = head->number != 0 || head->source_bytes != 0 || head->intent_bytes != 0 || head->durability != 0;
    if (inside ? own : (head->page_id & MMSB_COMMAND_CREATED) != 0) return MMSB_BAD_COMMAND;
    return parse_body(command, body, left, inside);
}

int mmsb_command_parse(const uint8_t *record, uint64_t bytes, mmsb_command *command) {
    return parse(record, bytes, command, false);
}

int mmsb_command_next(const mmsb_command *batch, uint64_t *at, mmsb_command *inside) {
    if (*at == batch->data_bytes) return MMSB_END;
    uint64_t left = batch->data_bytes - *at;
    if (left < sizeof(mmsb_command_head)) return MMSB_BAD_COMMAND;
    const uint8_t *record = batch->data + *at;
    uint64_t bytes = mmsb_load_u32(record), taken = mmsb_align_up(bytes, 8);
    if (taken > left) return MMSB_BAD_COMMAND;
    *at += taken;
    return parse(record, bytes, inside, true);
}

/* ---- rights */

/* Place of the first id that is not below `page_id`. */
static uint64_t place_of(const mmsb_rights *rights, uint64_t page_id) {
    uint64_t low = 0, high = rights->pages.size / sizeof page_id;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (mmsb_load_u64(rights->pages.data + middle * sizeof page_id) < page_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool mmsb_rights_change(const mmsb_rights *rights, uint64_t page_id) {
    if (rights->every_page) return true;
    uint64_t at = place_of(rights, page_id) * sizeof page_id;
    return at < rights->pages.size && mmsb_load_u64(rights->pages.data + at) == page_id;
}

int mmsb_rights_add(mmsb_rights *rights, const mmsb_alloc *alloc, uint64_t first, uint64_t count) {
    mmsb_buffer *pages = &rights->pages;
    if (count > (UINT32_MAX - pages->size) / sizeof first) return MMSB_NO_MEMORY;
    if (!mmsb_buffer_reserve(pages, alloc, pages->size + count * sizeof first)) return MMSB_NO_MEMORY;
    for (uint64_t id = first; id < first + count; id++) {
        uint64_t at = place_of(rights, id) * sizeof id;
        if (at < pages->size && mmsb_load_u64(pages->data + at) == id) continue;
        memmove(pages->data + at + sizeof id, pages->data + at, pages->size - at);
        mmsb_store_u64(pages->data + at, id);
        pages->size += sizeof id;
    }
    return MMSB_OK;
}

static int refuse(mmsb_refusal *why, mmsb_right right, uint64_t page_id) {
    *why = (mmsb_refusal){right, page_id};
    return MMSB_NO_RIGHT;
}

/* Pages that the command itself creates are its own. */
static bool may_change(const mmsb_rights *rights, uint64_t page_id) {
    return (page_id & MMSB_COMMAND_CREATED) != 0 || mmsb_rights_change(rights, page_id);
}

int mmsb_rights_check(const mmsb_rights *rights, const mmsb_command *command, mmsb_refusal *why) {
    const mmsb_command_head *head = &command->head;
    mmsb_command op;
    uint64_t at = 0, page_id = head->page_id;
    switch (head->kind) {
        case MMSB_COMMAND_CREATE:
        case MMSB_COMMAND_CREATE_MANY:
            return rights->creates ? MMSB_OK : refuse(why, MMSB_RIGHT_CREATE, 0);
        case MMSB_COMMAND_BATCH:
            while (mmsb_command_next(command, &at, &op) == MMSB_OK)
                if (mmsb_rights_check(rights, &op, why) != MMSB_OK) return MMSB_NO_RIGHT;
            return MMSB_OK;
        case MMSB_COMMAND_WRITE_MANY:
            for (uint64_t i = 0; i < head->if_epoch; i++) {
                page_id = mmsb_load_u64(command->numbers + i * sizeof page_id);
                if (!may_change(rights, page_id)) return refuse(why, MMSB_RIGHT_CHANGE, page_id);
            }
            return MMSB_OK;
        default:
            if (!may_change(rights, page_id)) return refuse(why, MMSB_RIGHT_CHANGE, page_id);
            if (head->kind != MMSB_COMMAND_DELETE || rights->deletes || (page_id & MMSB_COMMAND_CREATED) != 0)
                return MMSB_OK;
            return refuse(why, MMSB_RIGHT_DELETE, page_id);
    }
}
