"""A handler on TorchServe's BaseHandler: the look-up before the model, the label after it."""

import json
from pathlib import Path
from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    """The handler of one model; batches are of one request, the default."""

    def initialize(self, context: Any) -> None:
        """Load the model and the names of its features, categories and labels."""
        super().initialize(context)
        directory = Path(context.system_properties["model_dir"])
        contract = json.loads((directory / "contract.json").read_bytes())
        self._inputs, self._labels = contract["inputs"], contract["labels"]
        self._positions = {
            spec["name"]: {category: i for i, category in enumerate(spec["categories"])}
            for spec in self._inputs
            if spec.get("categories")
        }

    def preprocess(self, data: list[dict[str, Any]]) -> list[torch.Tensor]:
        """Convert rows to tensors, one for each input."""
        rows = [request["body"] for request in data]
        if len(self._inputs) == 1:
            return [torch.tensor([row["inputs"] for row in rows], dtype=torch.uint8)]
        return [self._column(spec, [row[spec["name"]] for row in rows]) for spec in self._inputs]

    def inference(self, data: list[torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run the model."""
        with torch.inference_mode():
            return self.model(*data)  # type: ignore[no-any-return]

    def postprocess(self, data: torch.Tensor) -> list[Any]:
        """Return a number a row, or the likeliest label."""
        if not self._labels:
            return [{"prediction": value} for value in data.tolist()]
        best = data.argmax(1).tolist()
        return [
            {"prediction": {"label": self._labels[i], "index": i, "probability": float(row[i])}}
            for i, row in zip(best, data, strict=True)
        ]

    def _column(self, spec: dict[str, Any], values: list[Any]) -> torch.Tensor:
        if spec["name"] in self._positions:
            return torch.tensor([self._positions[spec["name"]][value] for value in values])
        return torch.tensor(values, dtype=torch.float32 if spec["datatype"] == "FP32" else torch.int64)
