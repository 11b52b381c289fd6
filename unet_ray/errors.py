"""Every error a user of unet-ray can meet.

::

    UnetRayError                 shown as one line, exit code 2
    ├── ConfigError              a YAML key or a flag is unknown, of the wrong type or out of range
    ├── DatasetError             no frames found, a split is empty, a list names columns we do not know
    ├── ResourceError            the cluster cannot run the job as configured
    ├── StorageError             an object could not be read or written
    │   ├── NotFoundError        permanent: the object or bucket is not there
    │   ├── AccessError          permanent: refused or expired credentials
    │   ├── ExistsError          permanent: another object is where one was to be created
    │   ├── ChangedError         permanent: an object is not the one that was planned
    │   └── TransientError       may pass: throttling, resets, timeouts
    ├── TableError               an output table is damaged or incomplete
    │   ├── PlanMismatchError    the output belongs to another plan, model or setting
    │   └── QuarantineLimitError more rows were quarantined than the job allows
    ├── CheckpointError          no checkpoint, a damaged one, or one of another model
    ├── DivergedError            training met too many steps in a row without a finite loss
    └── ImageError               one image or mask is unusable: becomes a quarantined row, never a failed job

A message says which rule was broken, what was found, where, and what to do about it.
"""


class UnetRayError(Exception):
    """Base of every error that is the user's to fix."""


class ConfigError(UnetRayError):
    """A configuration key is unknown, of the wrong type or out of range."""


class DatasetError(UnetRayError):
    """The input does not hold what its layout promises."""


class ResourceError(UnetRayError):
    """The cluster cannot run the job as configured."""


class StorageError(UnetRayError):
    """An object could not be read or written."""


class NotFoundError(StorageError):
    """The object, folder or bucket is not there; trying again cannot help."""


class AccessError(StorageError):
    """The store refused the credentials; trying again cannot help."""


class ExistsError(StorageError):
    """An object that must be new is already there with other content; it was left as it is."""


class ChangedError(StorageError):
    """An object is there, but with another content than the one that was asked for."""


class TransientError(StorageError):
    """The store did not answer as it should, after the client's own retries; a later try may succeed."""


class TableError(UnetRayError):
    """An output table is damaged, incomplete or not a table of ours."""


class PlanMismatchError(TableError):
    """The output at this place belongs to another plan, model or setting."""


class QuarantineLimitError(TableError):
    """More rows were quarantined than the job allows; nothing was published."""


class CheckpointError(UnetRayError):
    """There is no checkpoint, it is damaged, or it belongs to another model."""


class DivergedError(UnetRayError):
    """Training met too many steps in a row without a finite loss or gradient; the last sound checkpoint is kept."""


class ImageError(UnetRayError):
    """One image or mask is unusable, for good.

    Raised in tasks by the decoders and checks, caught per row: ``code`` and ``message`` become the row's
    ``error_code`` and ``error_message`` and the job goes on.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
