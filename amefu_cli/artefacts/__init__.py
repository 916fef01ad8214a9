"""One module per kind of file on disk: header, write, open, check. No model in here."""
