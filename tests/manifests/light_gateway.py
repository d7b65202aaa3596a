"""`breakeven` with words hashed instead of understood: half the time of a gateway's start is the embedding model's."""

import sys

from breakeven.main import main
from breakeven.serve import serve_settings
from retrieval.hashing import HashingEmbedder
from serving.settings import load_settings

if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve_settings(load_settings(), HashingEmbedder())
    else:
        main()
