"""Documents and names of the OCI image specification: references, descriptors, manifests, platforms."""
