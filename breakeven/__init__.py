"""The command line: the only package that sees all others. Every command is a few lines over one of them."""
