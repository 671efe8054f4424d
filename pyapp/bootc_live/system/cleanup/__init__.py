"""Nothing stays behind: the guarded child process, private directories, results that are made whole or not at all."""
