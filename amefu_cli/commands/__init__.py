"""One module per subcommand: options -> recipe -> stage -> print."""
