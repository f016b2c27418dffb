"""The commands: each a thin call, which loads torch only when it needs it."""
