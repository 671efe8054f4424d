"""The composefs layout: files' contents as objects that roots share, and EROFS metadata that refers to them."""
