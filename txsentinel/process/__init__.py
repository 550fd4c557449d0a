"""The operating system process: descriptors, garbage collection, name resolution, supervision and logs."""
