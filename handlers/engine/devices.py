"""The device that an engine computes on: ``handler.device`` of ``model-config.yaml``, ``cpu`` or ``cuda[:n]``."""

import re
from typing import Any

CPU = "cpu"
_FORM = re.compile(r"cpu|cuda(?::(\d{1,3}))?")


def check_device(device: object) -> str:
    """Return the setting.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(device, str) or not _FORM.fullmatch(device):
        raise ValueError(f"handler.device is {device!r} in model-config.yaml; it must be cpu, cuda or cuda:1")
    return device


def check_present(device: str, engine: str) -> None:
    """Check that an engine can compute on a device of this machine.

    Raises:
        ValueError: it cannot.
    """
    check_device(device)
    if engine == "python":
        if device != CPU:
            raise ValueError(f"handler.device is {device!r} in model-config.yaml; scikit-learn runs on the cpu alone")
    elif engine == "onnxruntime":
        onnx_providers(device)
    else:
        torch_device(device)


def onnx_providers(device: str) -> list[Any]:
    """Return the providers of ONNX Runtime for a device.

    Raises:
        ValueError: this machine's ONNX Runtime lacks the provider.
    """
    import onnxruntime

    if device == CPU:
        return ["CPUExecutionProvider"]
    own = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in own:
        raise ValueError(
            f"handler.device is {device!r} in model-config.yaml, and the ONNX Runtime here has {', '.join(own)}: "
            "install onnxruntime-gpu in place of onnxruntime, or set cpu"
        )
    # Without TF32, which rounds to 10 bits, so that answers are those of the CPU.
    return [("CUDAExecutionProvider", {"device_id": _number(device), "use_tf32": 0}), "CPUExecutionProvider"]


def check_session(session: Any, device: str) -> None:
    """Check that a session runs where it should: ONNX Runtime falls back to the CPU where CUDA cannot be loaded.

    Raises:
        ValueError: it does not.
    """
    if device != CPU and "CUDAExecutionProvider" not in session.get_providers():
        raise ValueError(
            f"handler.device is {device!r} in model-config.yaml, and ONNX Runtime could not start there: its log says "
            "why, mostly that CUDA or cuDNN is missing or of another version"
        )


def torch_device(device: str) -> Any:
    """Return PyTorch's device.

    Raises:
        ValueError: this machine lacks it.
    """
    import torch

    if device != CPU:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if _number(device) >= count:
            raise ValueError(
                f"handler.device is {device!r} in model-config.yaml, and PyTorch {torch.__version__} finds "
                f"{count or 'no'} CUDA device{'s' * (count > 1)} here: install a build with CUDA and its driver, "
                "or set cpu"
            )
        torch.backends.cudnn.allow_tf32 = False  # it rounds to 10 bits
    return torch.device(device)


def _number(device: str) -> int:
    return int(device.partition(":")[2] or 0)
