"""Source videos: found, opened, decoded, and what can be wrong with one."""
