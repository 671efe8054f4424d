"""Read images from files: OCI archives, OCI layout directories and docker-archives, as files or streams."""
