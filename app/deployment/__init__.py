"""One model that is served: its queue, its settings, and the workers that come and go."""
