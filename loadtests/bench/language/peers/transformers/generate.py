"""The peer transformers: greedy ``generate`` in float32. ``generate.py MODEL.gguf``; a JSON line a task or answer."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Clock:
    """A stopping criterion that records the time of each token; a streamer takes no batch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, tokens: Any, scores: Any, **more: Any) -> Any:
        """Never stop."""
        self.times.append(time.perf_counter())
        return torch.zeros(len(tokens), dtype=torch.bool)


def say(line: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(path: Path) -> None:
    """Answer each line of standard input."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    say("ready")
    for line in sys.stdin:
        task = json.loads(line)
        clock, started = Clock(), time.perf_counter()
        # All prompts are of one length, so that nothing is padded.
        inputs = tokenizer(task["prompts"], return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            generated = model.generate(
                **inputs, max_new_tokens=task["max_tokens"], do_sample=False, stopping_criteria=[clock]
            )
        texts = tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
        times = [moment - started for moment in clock.times]
        answers = [{"text": text, "times": times, "prompt": length} for text in texts]
        say(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
