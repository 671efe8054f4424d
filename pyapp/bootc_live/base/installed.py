"""Where an initramfs has the files of bootc-live; modules.d puts them there."""

TOP = "/usr/lib/bootc-live"
PROGRAM = f"{TOP}/bootc-live.pyz"
# What the program was packed for, one word a line.
FEATURES = f"{TOP}/features"
# Fetches a URL with the handlers of dracut's url-lib.
FETCH_URL = f"{TOP}/fetch-url"
# The time of the build, in seconds since 1970.
BUILT = f"{TOP}/built"
