"""What llama.cpp was built for, against what the processor has; needs no llama.cpp."""

from pathlib import Path

import pytest

from handlers.language.decoders.llama import missing

BUILT = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | FMA = 1 | AVX512 = 1 | AVX512_VNNI = 1 | OPENMP = 1 | "
OLDER = "fpu pni ssse3 avx avx2 fma"


@pytest.mark.parametrize(
    ("flags", "lacking"),
    [(f"{OLDER} avx512f avx512_vnni", []), (f"{OLDER} avx512f", ["AVX512_VNNI"]), (OLDER, ["AVX512", "AVX512_VNNI"])],
)
def test_instructions_that_the_processor_has_not_are_named(tmp_path: Path, flags: str, lacking: list[str]) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: x\n")
    assert missing(BUILT, tmp_path / "cpuinfo") == lacking


def test_without_the_kernels_list_nothing_is_known_to_be_missing(tmp_path: Path) -> None:
    assert missing(BUILT, tmp_path / "cpuinfo") == []
