"""Makes packages unfindable, as if they were not installed, in processes that have this folder in PYTHONPATH."""

import os
import sys

for name in os.environ["WITHOUT_PACKAGES"].split():
    sys.modules[name] = None  # type: ignore[assignment]
