"""Small files: atomic writes, fingerprints, names, the workspace, splits, episodes, results."""
