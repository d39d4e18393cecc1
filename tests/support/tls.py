"""Certificates, made by openssl, and a TLS end in front of a plain server."""

import contextlib
import pathlib
import select
import socket
import ssl
import subprocess
import threading

from . import net

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


class Authority:
    """A certificate authority; `ca` is its certificate."""

    def __init__(self, directory, name="ca"):
        self.directory = pathlib.Path(directory) / name
        self.directory.mkdir(parents=True)
        self.ca = self.directory / "ca.pem"
        self.key = self.directory / "ca-key.pem"
        _openssl("req", "-x509", *CURVE, "-keyout", self.key, "-out", self.ca, "-days", 2, "-subj", f"/CN={name}")

    def issue(self, name, *hosts, expired=False):
        """A certificate for these names and IP addresses: (certificate, key)."""
        cert, key, request, extensions = (self.directory / f"{name}{end}" for end in
                                          (".pem", "-key.pem", ".csr", ".ext"))
        _openssl("req", "-new", *CURVE, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        names = ",".join(("IP:" if host.replace(".", "").isdigit() else "DNS:") + host for host in hosts or (name,))
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-out", cert,
                 "-extfile", extensions, "-days", -1 if expired else 2)
        return cert, key

    def hashed(self):
        """A directory as ca_path= wants it."""
        folder = self.directory / "hashed"
        folder.mkdir(exist_ok=True)
        name = _openssl("x509", "-in", self.ca, "-noout", "-hash").strip()
        (folder / f"{name}.0").write_bytes(self.ca.read_bytes())
        return folder

    def agent(self, host, name="server.dc1.consul"):
        """(configuration of a Consul agent that asks its clients for a certificate, its https port)."""
        cert, key = self.issue("agent", host, name)
        port = net.free_ports(host, 1)[0]
        return {"ports": {"https": port}, "ca_file": str(self.ca), "cert_file": str(cert), "key_file": str(key),
                "verify_incoming": True}, port


class Front:
    """Ends TLS with a certificate that can be exchanged, and passes the bytes on to a plain server.

    stalls: connections are accepted and their handshakes never answered.
    """

    def __init__(self, target, cert=None, key=None, stalls=False):
        self.target = target
        self.host = net.loopback()
        self.stalls = stalls
        self.accepted = 0
        self._held = []
        self._drops = 0
        if cert:
            self.present(cert, key)
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"https://{self.host}:{self.port}"

    def present(self, cert, key):
        """Show this certificate from now on; the connections there are end."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self._context = context
        self.drop()

    def drop(self):
        self._drops += 1
        held, self._held = self._held, []
        for sock in held:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._held.append(sock)
            if not self.stalls:
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        drops = self._drops
        with contextlib.suppress(OSError), contextlib.closing(sock), \
                self._context.wrap_socket(sock, server_side=True) as near, \
                socket.create_connection(self.target, 10) as far:
            self._held.append(near)
            if self._drops != drops:
                return  # dropped in the middle of its handshake
            while True:
                ready = [near] if near.pending() else select.select([near, far], [], [])[0]
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    (far if side is near else near).sendall(data)
