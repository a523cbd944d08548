"""KV states of prompts that were computed: kept, found again, evicted. Engine thread, but for what says otherwise."""
