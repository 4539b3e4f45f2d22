"""python-tuf as the client of a repository on disk: read.py REPOSITORY ROOT.json NOW TARGET...

Prints one line of JSON: the version of each role, and length and content hash of each target.
NOW (seconds since 1970) takes the place of the present.
"""

import datetime
import hashlib
import json
import pathlib
import sys
import tempfile

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient._internal import trusted_metadata_set
from tuf.ngclient.fetcher import FetcherInterface


class Directory(FetcherInterface):
    def _fetch(self, url):
        path = pathlib.Path(url)
        if not path.is_file():
            raise DownloadHTTPError(url, 404)
        return iter([path.read_bytes()])


def set_present(seconds):
    present = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return present

    trusted_metadata_set.datetime.datetime = Fixed


repository, root, now, *targets = sys.argv[1:]
set_present(int(now))
with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as downloads:
    updater = Updater(
        kept,
        f"{repository}/metadata/",
        downloads,
        f"{repository}/targets/",
        fetcher=Directory(),
        bootstrap=pathlib.Path(root).read_bytes(),
    )
    updater.refresh()
    found = {}
    for target in targets:
        info = updater.get_targetinfo(target)
        if info is None:
            found[target] = None
            continue
        content = pathlib.Path(updater.download_target(info)).read_bytes()
        found[target] = [info.length, hashlib.sha256(content).hexdigest()]
    trusted = updater._trusted_set
    versions = {role: trusted[role].version for role in ("root", "timestamp", "snapshot", "targets")}
    print(json.dumps({"versions": versions, "targets": found}))
