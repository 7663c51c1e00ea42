"""The end of TorchServe's management over gRPC: its port cannot be turned off, so nothing must answer behind it.

TorchServe opens the port whatever its configuration says, checks no caller, and registers whatever a caller names. It
loads the service's class from Java's class path. A class of the same name goes before it. That one inherits every
method from the class that protobuf generated, overrides none, and so answers each call with UNIMPLEMENTED.
"""

import struct
from pathlib import Path

SERVICE = "org/pytorch/serve/grpcimpl/ManagementImpl"
GENERATED = "org/pytorch/serve/grpc/management/ManagementAPIsServiceGrpc$ManagementAPIsServiceImplBase"
JAVA_8 = 52  # version of a class file ("The Java Virtual Machine Specification", chapter 4), read by every later Java
PUBLIC, SUPER = 0x0001, 0x0020
CALL_CONSTRUCTOR_OF_SUPER = bytes.fromhex("2a b7 0001 b1")  # aload_0, invokespecial #1, return


def write_closed_service(folder: Path) -> Path:
    """Write the class under a folder that goes before TorchServe on the class path, and return the folder."""
    path = folder / f"{SERVICE}.class"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(closed_service())
    return folder


def closed_service() -> bytes:
    """Return the class file: a public class with a constructor and nothing else."""
    constants = [
        b"\x0a" + struct.pack(">HH", 2, 3),  # 1: the constructor that is called, of 2, named 3
        b"\x07" + struct.pack(">H", 4),  # 2: the class GENERATED
        b"\x0c" + struct.pack(">HH", 5, 6),  # 3: <init>, of type ()V
        _text(GENERATED),  # 4
        _text("<init>"),  # 5
        _text("()V"),  # 6
        b"\x07" + struct.pack(">H", 8),  # 7: the class SERVICE
        _text(SERVICE),  # 8
        _text("Code"),  # 9
    ]
    code = struct.pack(">HHI", 1, 1, len(CALL_CONSTRUCTOR_OF_SUPER)) + CALL_CONSTRUCTOR_OF_SUPER + bytes(4)
    constructor = struct.pack(">HHHHHI", PUBLIC, 5, 6, 1, 9, len(code)) + code
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, JAVA_8, len(constants) + 1) + b"".join(constants)
    # Of class 7, from 2; no interfaces, no fields, one method, no attributes.
    return head + struct.pack(">HHHHHH", PUBLIC | SUPER, 7, 2, 0, 0, 1) + constructor + bytes(2)


def _text(value: str) -> bytes:
    return b"\x01" + struct.pack(">H", len(value)) + value.encode()
