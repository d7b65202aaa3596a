"""How many requests a key may send in a minute, and how many tokens they may take."""
