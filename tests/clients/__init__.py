"""Client libraries of all sorts over our Sentinels, each in a process of its own."""
