"""The search: space, oracle, trial, loop and baseline."""
