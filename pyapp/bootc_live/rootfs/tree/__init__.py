"""The merged tree of an image: read from its layers, made fit to be a live root, labelled."""
