"""python-tuf as the writer of a repository: write.py DIRECTORY EXPIRES

Keys of all three kinds, a root that was rotated twice, delegations by pattern and by hash, one of
them to a role with an odd name, hashes in the snapshot, SHA-512, and custom fields.
"""

import datetime
import hashlib
import pathlib
import sys
from urllib import parse

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

directory = pathlib.Path(sys.argv[1])
expires = datetime.datetime.fromisoformat(sys.argv[2])
(directory / "metadata").mkdir(parents=True)
(directory / "targets").mkdir()


def publish(name, signed, signers, compact=True):
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    data = metadata.to_bytes(JSONSerializer(compact=compact))
    (directory / "metadata" / name).write_bytes(data)
    return MetaFile(
        signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()}
    )


def add_target(targets, path, content, algorithms=None, custom=None):
    info = TargetFile.from_data(path, content, algorithms)
    if custom is not None:
        info.unrecognized_fields["custom"] = custom
    targets.targets[path] = info
    for place in info.get_prefixed_paths():
        file = directory / "targets" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


ed25519 = CryptoSigner.generate_ed25519()
ecdsa = CryptoSigner.generate_ecdsa()
rsa = CryptoSigner.generate_rsa()
online = CryptoSigner.generate_ed25519()

# Three roots: ed25519; ed25519 and ecdsa; ecdsa and rsa, two of two.
root = Root(expires=expires, consistent_snapshot=True)
root.unrecognized_fields["x-note"] = {"é": ["\u0001\t\"\\/", -1, True, None]}
for role in ("timestamp", "snapshot", "targets"):
    root.add_key(online.public_key, role)
root.add_key(ed25519.public_key, "root")
publish("1.root.json", root, [ed25519])
root.version = 2
root.add_key(ecdsa.public_key, "root")
root.roles["root"].threshold = 2
publish("2.root.json", root, [ed25519, ecdsa], compact=False)
root.version = 3
root.revoke_key(ed25519.public_key.keyid, "root")
root.add_key(rsa.public_key, "root")
publish("3.root.json", root, [ed25519, ecdsa, rsa])

vendor = Targets(expires=expires)
add_target(vendor, "drivers/gpu 1.bin", b"a driver", ["sha512"])
odd = Targets(expires=expires)
add_target(odd, "odd/é.txt", b"odd")
bins = Targets(expires=expires)
add_target(bins, "bins/1", b"one", ["sha256", "sha512"])

targets = Targets(expires=expires)
add_target(
    targets,
    "edge/cloud.json",
    b"the whole operating system",
    custom={
        "berth": {
            "product": "edge",
            "profile": "cloud",
            "architecture": "x86_64",
            "version": "1.10.0",
            "security_version": 4,
        }
    },
)
digits = "0123456789abcdef"
targets.delegations = Delegations(
    {key.public_key.keyid: key.public_key for key in (ecdsa, rsa)},
    {
        "vendor": DelegatedRole(
            "vendor", [rsa.public_key.keyid], 1, False, paths=["drivers/*.[ab]in"]
        ),
        "../odd role?": DelegatedRole(
            "../odd role?", [ecdsa.public_key.keyid], 1, True, paths=["odd/*"]
        ),
        "bins": DelegatedRole(
            "bins", [ecdsa.public_key.keyid], 1, False, path_hash_prefixes=list(digits)
        ),
    },
)

snapshot = Snapshot(expires=expires)
for role, signed, signer in (
    ("targets", targets, online),
    ("vendor", vendor, rsa),
    ("../odd role?", odd, ecdsa),
    ("bins", bins, ecdsa),
):
    name = f"{signed.version}.{parse.quote(role, '')}.json"
    snapshot.meta[f"{role}.json"] = publish(name, signed, [signer])
timestamp = Timestamp(expires=expires)
timestamp.snapshot_meta = publish("1.snapshot.json", snapshot, [online])
publish("timestamp.json", timestamp, [online])
