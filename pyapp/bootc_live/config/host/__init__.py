"""Settings in files and credentials of the host: logins, certificates, registries, mirrors, identity."""
