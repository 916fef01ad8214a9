"""How work is spread: worker processes, and shares of an array of jobs."""
