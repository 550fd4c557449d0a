"""The side that clients, operators and other Sentinels connect to."""
