"""Tests of the extension ``template``; those that execute commands are in ``tests/interop/test_templates.py``."""
