"""The first process of a root whose program is not made to be one."""
