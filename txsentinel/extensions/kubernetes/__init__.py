"""Keeps the addresses of masters in objects of Kubernetes."""
