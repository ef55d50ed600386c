#include "status.h"

const char *mmsb_status_text(int status) {
    switch (status) {
#define MMSB_STATUS_CASE(name, value, text) \
    case value:                             \
        return text;
        MMSB_STATUS_LIST(MMSB_STATUS_CASE)
#undef MMSB_STATUS_CASE
        default:
            return "unknown status";
    }
}
