"""The command line: options of ``twistd sentinel`` and overrides of directives."""
