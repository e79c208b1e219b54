"""What only the nightly mode runs."""

import os

collect_ignore = [] if os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1" else ["test_fuzz_guided.py"]
