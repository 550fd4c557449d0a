"""Our connections to the servers that we watch and to the other Sentinels."""
