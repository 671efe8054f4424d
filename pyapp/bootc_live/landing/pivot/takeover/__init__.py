"""Landing on a machine whose init cannot switch roots: its first process is made to run the new init."""
