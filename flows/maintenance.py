"""The monthly flow: join the small files of the prices, tidy the databases, remove what killed runs have left."""
