"""How large an image is once it is unpacked, asked before it is fetched."""
