"""Peak memory of processes that hold pages, each class with an empty baseline."""

import mmsb

from .common import store_with_history


class Empty:
    def peakmem_imported(self):
        mmsb.open()


class Pages:
    params = [[64, 1024, 65536]]
    param_names = ["page_bytes"]

    def peakmem_100_000_pages(self, page_bytes):
        count = min(100_000, (256 << 20) // page_bytes)
        state = mmsb.open()
        for page_id in state.create_pages(count, page_bytes):
            state.query_page(page_id)


class History:
    def peakmem_100_000_commits(self):
        store_with_history(None, 100_000)
