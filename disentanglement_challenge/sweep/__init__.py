"""Many runs at a time, with Ray, and the choice among their seeds."""

import os

# Before Ray is imported: it reports its use to its makers otherwise.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A run's process belongs to the process group of the sweep, so that a signal to the group, such as SIGSTOP, reaches it.
os.environ.setdefault("RAY_process_group_cleanup_enabled", "0")
