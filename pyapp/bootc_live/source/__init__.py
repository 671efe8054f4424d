"""Open sources of images: manifest bytes and blob streams, which are not verified here."""
