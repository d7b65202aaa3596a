"""What each key and each tenant may spend: held while a request runs, settled with its true cost, refused beyond."""
