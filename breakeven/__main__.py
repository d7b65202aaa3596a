"""`python -m breakeven`: the same as the installed command."""

from breakeven.main import main

if __name__ == "__main__":
    main()
