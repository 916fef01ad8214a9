"""The report: figures, sections, and the one HTML page that they stand on. May be lifted out whole."""
