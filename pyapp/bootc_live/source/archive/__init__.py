"""Images in files: OCI archives, OCI layout directories, docker-archives; whole files or streams."""
