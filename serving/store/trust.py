"""Signatures of archives by OpenSSF Model Signing with a pair of elliptic keys, and their check.

A signature is a Sigstore bundle of an in-toto statement, which names the archive's SHA-256. Nothing of it is asked over
a network. It says who made an archive, not which of the signed ones is to be served: the registry says that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.store.faults import ArchiveError
from serving.store.shared.archives import signature_of

_WAY = "`marloop sign` signs it with the private key"
_EXTRA = "pip install -e '.[signing]'"


@dataclass(frozen=True)
class Trust:
    """The keys of archives, each a file in PEM of the curve P-256, P-384 or P-521.

    Attributes:
        public_key: archives must be signed for it; None: no signature is asked for.
        signing_key: new archives are signed with it; it has no password. None: they are not signed.
    """

    public_key: Path | None = None
    signing_key: Path | None = None

    def check(self, path: Path) -> None:
        """Check the signature beside an archive, where one is asked for.

        Raises:
            ArchiveError: there is none, it is another archive's or another key's, or the key cannot be read.
        """
        if self.public_key is None:
            return
        signature = signature_of(path)
        if not signature.is_file():
            raise ArchiveError(f"{path} is not signed, and {self.public_key} is asked for: {_WAY}")
        config = _config("verifying")
        try:
            config.use_elliptic_key_verifier(public_key=self.public_key)
        except Exception as error:  # of the key's file, in any form
            raise ArchiveError(f"{self.public_key} is no public key that can be used: {_text(error)}") from error
        try:
            config.verify(path.resolve(), signature)  # a link is refused
        except Exception as error:  # of a damaged bundle, in any form
            raise ArchiveError(
                f"{path} is not what was signed for {self.public_key} ({_text(error)}): it was altered, or signed with "
                f"another key. If it is right, {_WAY}"
            ) from error

    def sign(self, path: Path) -> None:
        """Sign an archive, where there is a key for it; the signature replaces a former one.

        Raises:
            ArchiveError: the key or the archive cannot be read, or the signature not be written.
        """
        if self.signing_key is None:
            return
        config, signature = _config("signing"), signature_of(path)
        try:
            config.use_elliptic_key_signer(private_key=self.signing_key)
        except Exception as error:  # of the key's file, in any form
            raise ArchiveError(f"{self.signing_key} is no private key that can be used: {_text(error)}") from error
        new = signature.with_name(f".{signature.name}.new")
        try:
            config.sign(path, new)
            new.replace(signature)
        except (OSError, ValueError) as error:
            raise ArchiveError(f"{path} cannot be signed: {_text(error)}") from error
        finally:
            new.unlink(missing_ok=True)


def _config(module: str) -> Any:
    """Return the package's configuration for signing or verifying."""
    try:
        import model_signing  # an extra, which takes a second to load

        package: Any = model_signing
    except ImportError as error:
        raise ArchiveError(f"signatures of archives need the extra signing: {_EXTRA} ({error})") from error
    return getattr(package, module).Config()


def _text(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
