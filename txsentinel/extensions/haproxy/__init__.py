"""The extension that has HAProxy follow masters: answers to its agent checks, and commands over its runtime socket."""
