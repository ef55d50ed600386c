"""What `mmsb top` shows: activity counts, watch asks, app draws. Only app needs textual."""
