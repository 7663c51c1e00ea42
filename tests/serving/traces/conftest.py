"""An application with traces."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.serving.traces.traced import Traced


@pytest.fixture
def traced() -> "Traced":
    from tests.serving.traces.traced import Traced

    return Traced()
