"""TLS for listening ports and for links, with certificates that can be renewed at run time."""
