"""From a recording to what is said in it. The engine's thread; recordings are read from disk, a window at a time."""
