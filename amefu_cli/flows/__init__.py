"""What each command does, in order: bring up to date, choose, refuse, have a stage do it. Prints nothing itself."""
