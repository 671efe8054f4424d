"""The index layout: EROFS metadata that points into the layers' own tar streams."""
