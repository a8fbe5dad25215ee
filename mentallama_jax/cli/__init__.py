"""The `mentallama` command and its subcommands; nothing else imports this package."""
