"""HTTP and HTTPS: whom to trust, how long to wait, and reading bodies that may break off."""
