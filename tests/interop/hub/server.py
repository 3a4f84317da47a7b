"""A hub on this machine, with encryption: listings, small files, and redirects to a second port for large ones."""

import hashlib
import http.server
import json
import ssl
import subprocess
import threading

COMMIT = "0d1b43ccf21b5acd9f4e5f7b077fa698f05cf195"
LARGE = 10_000


def certificates(folder):
    """An authority of this run, and its certificate for 127.0.0.1: (the authority's file, the server's files)."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=interop authority")
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "server.ext"]
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    return folder / "ca.pem", (folder / "server.pem", folder / "server.key")


class Hub:
    """Serves one model and remembers the requests."""

    def __init__(self, model, files, certificate, newest_tls=True):
        self.model, self.files, self.requests = model, files, []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        if not newest_tls:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.addresses = []
        for cdn in (False, True):
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler(cdn))
            server.socket = context.wrap_socket(server.socket, server_side=True)
            self.addresses.append(f"https://127.0.0.1:{server.server_port}")
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.endpoint = self.addresses[0]

    def contents_sent(self):
        """How often a content was asked for since this was last called."""
        count = sum(method == "GET" and "/api/" not in path for method, path in self.requests)
        self.requests.clear()
        return count

    def handler(self, cdn):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.requests.append((self.command, self.path))
                path = self.path.split("?")[0]
                api, resolve = f"/api/models/{hub.model}", f"/{hub.model}/resolve/"
                if cdn:
                    return self.reply(200, hub.files[path.removeprefix("/cdn/")])
                if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                    siblings = [{"rfilename": name} for name in hub.files]
                    return self.reply(200, json.dumps({"id": hub.model, "sha": COMMIT, "siblings": siblings}).encode())
                name = path.removeprefix(resolve).split("/", 1)[-1]
                if not path.startswith(resolve) or name not in hub.files:
                    return self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                content = hub.files[name]
                headers = {"X-Repo-Commit": COMMIT}
                if len(content) < LARGE:
                    git = hashlib.sha1(b"blob %d\0" % len(content) + content)
                    return self.reply(200, content, headers | {"ETag": f'"{git.hexdigest()}"'})
                headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
                return self.reply(302, b"", headers | {"Location": f"{hub.addresses[1]}/cdn/{name}?signature=x"})

            do_GET = do_HEAD

            def reply(self, status, body, headers=None):
                wanted = self.headers.get("Range")
                if status == 200 and wanted:
                    start = int(wanted.removeprefix("bytes=").split("-")[0])
                    headers = {**(headers or {}), "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
                    status, body = 206, body[start:]
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        return Handler
