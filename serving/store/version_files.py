"""The archive of a version on this machine, and in the shared store where there is one."""

from pathlib import Path

from serving.store.faults import ArchiveError
from serving.store.fetching import file_sha256
from serving.store.registry_file import Version
from serving.store.shared.archives import SharedArchives, signature_of
from serving.store.trust import Trust


class VersionFiles:
    """The archives of a registry's versions.

    Args:
        store: folder of this machine.
        shared: the archives of the store that the folder has a copy of; None where the folder is the store itself.
    """

    def __init__(self, store: Path, shared: SharedArchives | None, trust: Trust) -> None:
        self._store, self._shared, self.trust = store, shared, trust

    def location(self, version: Version) -> str:
        """Return the path or URL of an archive, for ``serving.store.fetching`` on any machine."""
        if self._shared:
            return self._shared.location(version.archive, version.sha256)
        return str(self._store / version.archive)

    def path(self, version: Version) -> Path:
        """Return the path of an archive on this machine; one of a shared store is fetched if it is not there.

        Raises:
            ArchiveError: it cannot be fetched.
        """
        path = self._store / version.archive
        if self._shared and not path.is_file():
            self._shared.bring(path, version.sha256)
        return path

    def verify(self, version: Version, trust: Trust | None = None) -> Path:
        """Return the path of an archive, once its SHA-256 is as registered, and its signature is one to trust.

        Args:
            trust: other keys than the registry's.

        Raises:
            ArchiveError: it is not there, cannot be read, differs, or is not signed as it must be.
        """
        path = self.path(version)
        if not path.is_file():
            raise ArchiveError(f"{path} is not there: train the model again")
        try:
            sha256 = file_sha256(path)
            if self._shared and sha256 != version.sha256:  # our copy was altered
                self._shared.bring(path, version.sha256)
                sha256 = file_sha256(path)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read: {error.strerror or error}") from error
        if sha256 != version.sha256:
            raise ArchiveError(f"{path} has SHA-256 {sha256}, but {version.sha256} was registered: train it again")
        self._check_signature(path, sha256, trust or self.trust)
        return path

    def publish(self, archive: str, sha256: str) -> None:
        """Sign a new archive of this machine where there is a key for it, and put it into the shared store, if any.

        Raises:
            ArchiveError: it cannot be signed, read or written, or has another SHA-256.
        """
        path = self._store / archive
        self.trust.sign(path)
        if self._shared:
            self._shared.upload(path, sha256)

    def sign(self, version: Version, trust: Trust) -> Path:
        """Sign an archive that is registered, and return the path of its signature.

        Raises:
            ArchiveError: the archive is not as registered, or it cannot be signed.
        """
        path = self.verify(version, Trust())
        trust.sign(path)
        if self._shared:
            self._shared.upload_signature(path, version.sha256)
        return signature_of(path)

    def size(self, version: Version) -> int | None:
        """Return the bytes of an archive in the store; None if it is not there.

        Raises:
            ArchiveError: a shared store does not answer.
        """
        if self._shared:
            return self._shared.size(version.archive, version.sha256)
        path = self._store / version.archive
        return path.stat().st_size if path.is_file() else None

    def discard(self, archive: str) -> None:
        """Remove an archive with its signature, here and in the shared store.

        Raises:
            ArchiveError: a shared store does not answer.
            OSError: it cannot be removed.
        """
        if self._shared:
            self._shared.discard(archive)
        path = self._store / archive
        for file in (path, signature_of(path)):
            file.unlink(missing_ok=True)

    def _check_signature(self, path: Path, sha256: str, trust: Trust) -> None:
        try:
            trust.check(path)
        except ArchiveError:
            if self._shared is None:
                raise
            self._shared.bring_signature(path, sha256)  # it may have been signed since
            trust.check(path)
