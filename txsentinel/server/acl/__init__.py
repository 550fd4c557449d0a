"""ACL users with their permissions, the file that declares them, and the log of refused commands."""
