"""`python -m amefu_cli` is `amefu`."""

from amefu_cli.cli import main

if __name__ == "__main__":
    main()
