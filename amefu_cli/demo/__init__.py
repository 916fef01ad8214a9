"""The rendered world of `amefu demo`. Lifted out whole, nothing else would miss it."""
