"""TLS on the ports that we open and on the links that we dial, with certificates that can be renewed."""
