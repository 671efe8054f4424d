"""What a host brings along: logins, certificates, registries and mirrors, its identity."""
