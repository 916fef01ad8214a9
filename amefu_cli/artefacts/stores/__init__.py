"""Video stores: Zarr v3 groups of one zip archive a video, written, read, checked."""
