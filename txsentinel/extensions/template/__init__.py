"""The extension that writes files from templates, and has the programs that read them reload."""
