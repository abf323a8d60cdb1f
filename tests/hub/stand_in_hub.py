"""A stand-in for Hugging Face's hub: as much of its interface as huggingface_hub asks for to push and load a model.

Repositories are in memory. Files that end in .pt, .pt2 or .onnx go by Git LFS, as they do on the hub.
"""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import yaml

TOKEN = "hf_standin"
LARGE = (".pt", ".pt2", ".onnx")


class StandInHub(ThreadingHTTPServer):
    """The server and what it holds.

    Attributes:
        commits: files by path, by repository and commit; the newest last.
        private: repositories that only who has the token may see.
        requests: every "METHOD path" that came.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits, self.private, self.blobs, self.requests = {}, set(), {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, repository, files):
        """Makes a commit of these files: bytes by path."""
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits.setdefault(repository, {})[sha] = files
        return sha

    def files(self, repository):
        """The newest commit's."""
        return list(self.commits[repository].values())[-1]


@contextmanager
def stand_in_hub():
    """Yields a running one."""
    with StandInHub() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._route("GET")

    def do_HEAD(self):
        self._route("HEAD")

    def do_POST(self):
        self._route("POST")

    def do_PUT(self):
        self._route("PUT")

    def _route(self, method):
        path = urlsplit(self.path).path
        self.server.requests.append(f"{method} {path}")
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        routes = [
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", self._validate),
            ("POST", r"/api/models/([^/]+/[^/]+)/preupload/main", self._preupload),
            ("POST", r"/api/models/([^/]+/[^/]+)/commit/main", self._commit),
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            ("PUT", r"/blobs/(\w+)", self._upload),
            ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", self._info),
            ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            ("HEAD|GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        ]
        for methods, pattern, answer in routes:
            found = re.fullmatch(pattern, path)
            if found and method in methods.split("|"):
                return answer(*found.groups())
        return self._fail(404, f"the stand-in does not know {method} {path}")

    # Answers.

    def _create(self):
        asked = json.loads(self._body)
        repository = f"{asked['organization']}/{asked['name']}"
        answer = {"url": f"{self.server.url}/{repository}", "name": repository}
        if not self._may_write():
            return self._fail(401, "Invalid username or password.")
        if repository in self.server.commits:
            return self._json({**answer, "error": "You already created this model repo"}, 409)
        self.server.put(repository, {".gitattributes": b"*.pt filter=lfs\n"})
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(repository)
        return self._json(answer)

    def _validate(self):
        text = json.loads(self._body)["content"]
        front = text.split("---\n")[1] if text.startswith("---\n") else "{}"
        try:
            is_right = isinstance(yaml.safe_load(front), dict)
        except yaml.YAMLError:
            is_right = False
        errors = [] if is_right else [{"message": "the front matter is no YAML"}]
        self._json({"errors": errors, "warnings": []}, 200 if is_right else 400)

    def _preupload(self, repository):
        files = json.loads(self._body)["files"]
        modes = {file["path"]: "lfs" if file["path"].endswith(LARGE) else "regular" for file in files}
        self._json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})

    def _batch(self, repository):
        objects = json.loads(self._body)["objects"]
        actions = [
            {**o, "actions": {"upload": {"href": f"{self.server.url}/blobs/{o['oid']}", "header": {}}}} for o in objects
        ]
        self._json({"transfer": "basic", "objects": actions})

    def _upload(self, oid):
        if hashlib.sha256(self._body).hexdigest() != oid:
            return self._fail(400, "the bytes are not those of their name")
        self.server.blobs[oid] = self._body
        return self._json({})

    def _commit(self, repository):
        if not self._may_write():
            return self._fail(403, "Forbidden: you must use a write token")
        files = dict(self.server.files(repository))
        for line in self._body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.server.put(repository, files)
        return self._json({"commitOid": sha, "commitUrl": f"{self.server.url}/{repository}/commit/{sha}"})

    def _info(self, repository, revision):
        sha, files = self._at(repository, revision or "main")
        if sha:
            self._json({"id": repository, "sha": sha, "siblings": [{"rfilename": path} for path in files]})

    def _tree(self, repository, revision):
        sha, files = self._at(repository, revision)
        if sha:
            self._json([self._entry(path, content) for path, content in files.items()])

    def _resolve(self, repository, revision, path):
        sha, files = self._at(repository, revision)
        if not sha:
            return
        if path not in files:
            self._fail(404, "Entry not found", "EntryNotFound")
            return
        headers = {"X-Repo-Commit": sha, "ETag": f'"{self._entry(path, files[path])["oid"]}"'}
        self._send(200, files[path], "application/octet-stream", headers)

    # Their parts.

    def _may_write(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _at(self, repository, revision):
        if repository not in self.server.commits or (repository in self.server.private and not self._may_write()):
            self._fail(401, "Repository not found", "RepoNotFound")
            return None, None
        commits = self.server.commits[repository]
        sha = list(commits)[-1] if revision == "main" else revision
        if sha not in commits:
            self._fail(404, "Revision not found", "RevisionNotFound")
            return None, None
        return sha, commits[sha]

    @staticmethod
    def _entry(path, content):
        sha = hashlib.sha256(content).hexdigest()
        lfs = {"lfs": {"oid": sha, "size": len(content), "pointerSize": 130}} if path.endswith(LARGE) else {}
        return {"type": "file", "path": path, "size": len(content), "oid": sha[:40], **lfs}

    def _json(self, content, status=200):
        self._send(status, json.dumps(content).encode(), "application/json", {})

    def _fail(self, status, message, code=""):
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), "application/json", headers)

    def _send(self, status, content, kind, headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
