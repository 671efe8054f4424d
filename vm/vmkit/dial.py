"""A ProxyCommand of ssh(1) with ProxyUseFdpass: hands over a connection to a port of loopback.

That of the network namespace which this is started in.
"""

import socket
import sys

if __name__ == "__main__":
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as found, socket.socket(fileno=1) as ssh:
        socket.send_fds(ssh, [b"!"], [found.fileno()])
