"""Client libraries with Sentinels of ours, each client in a process of its own."""
