"""Publishes events over sockets of nng and nanomsg, and answers surveys."""
