"""Requests for text that have arrived: parsed while the engine makes a step, added to it before the next one."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from handlers.language.api.defaults import Defaults
from handlers.language.api.models import ModelNames
from handlers.language.api.requests import TextRequest
from handlers.language.api.routes import parse_request, too_long
from handlers.language.exchange import Text
from handlers.language.generation import ConstraintError, Generate, PromptTooLong
from handlers.language.prompts import Prompts
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.text import StoppedText
from handlers.message import InputError, Request


@dataclass(frozen=True)
class Arrival:
    """A request for text that was parsed, and waits until the engine may be asked.

    Attributes:
        prompts: tokens of each.
        prediction: tokens that its answers probably begin with.
        adapter: name of the one that answers; empty for the model alone.
        received: s since the epoch.
        started: s of the timer.
        decode: s that its parsing took.
    """

    request: Request
    asked: TextRequest
    prompts: Sequence[list[int]]
    prediction: list[int]
    adapter: str
    received: float
    started: float
    decode: float


class Arrivals:
    """Parses requests.

    Args:
        names: of the model and its adapters.
        engine: is asked for nothing that it does not allow while it makes a step.
        defaults: of the model, for what a request leaves out.
        clock: seconds since the epoch.
        timer: a monotonic clock in s.
    """

    def __init__(
        self,
        names: ModelNames,
        engine: ContinuousBatching,
        prompts: Prompts,
        defaults: Defaults,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self._names, self._defaults = names, defaults
        self._engine, self._prompts, self._clock, self._timer = engine, prompts, clock, timer

    def parse(self, request: Request, path: str) -> Arrival:
        """Parse a request for text, and split its prompts into tokens.

        Args:
            path: the route that it asks.

        Raises:
            InputError: it has a fault.
        """
        received, started = self._clock(), self._timer()
        asked = self._defaults.of(parse_request(request, path))
        number, most = len(asked.prompts) * asked.n, self._engine.slots + self._engine.queue
        if number > most:
            place = "$.n" if asked.n > 1 else "$.prompt"
            raise InputError("out_of_range", f"there would be {number} answers", place, f"at most {most}")
        prompts = [self._prompts.tokens(prompt, asked.path(i), asked.goes_on) for i, prompt in enumerate(asked.prompts)]
        prediction = self._prompts.prediction(asked.prediction)
        adapter = self._names.adapter_of(asked.model)
        decode = self._timer() - started
        return Arrival(request, asked, prompts, prediction, adapter, received, started, decode)


def add_texts(engine: ContinuousBatching, arrival: Arrival) -> dict[str, Text]:
    """Ask an engine, which makes no step, for the texts of a request; return them by the ids that it has for them.

    Raises:
        InputError: one of them cannot be had; then none is asked for.
        QueueFull: the engine has no room for all.
    """
    asked, texts = arrival.asked, dict[str, Text]()
    try:
        for i in range(len(arrival.prompts) * asked.n):
            ident = f"{arrival.request.id}/{i}" if i else arrival.request.id
            prompt, again = divmod(i, asked.n)
            _generate(engine, ident, arrival, prompt, again)
            texts[ident] = Text(i, StoppedText(asked.stop), 0 if again else len(arrival.prompts[prompt]))
    except Exception:
        for ident in texts:
            with contextlib.suppress(Exception):  # the fault before this one is told
                engine.cancel(ident)
        raise
    return texts


def _generate(engine: ContinuousBatching, ident: str, arrival: Arrival, number: int, again: int) -> None:
    """Ask the engine for one text.

    Args:
        number: of the prompt.
        again: number of the text among those to the same prompt.
    """
    asked, prompt, path = arrival.asked, arrival.prompts[number], arrival.asked.path(number)
    context, most, sampling = engine.context, asked.max_tokens, asked.sampling
    if most is None:
        most = max(1, context - len(prompt))
    elif len(prompt) + most > context:
        raise too_long(path, context, len(prompt), most)
    if again and sampling.seed is not None:
        sampling = replace(sampling, seed=sampling.seed + again)
    try:
        engine.add(Generate(ident, prompt, most, sampling, asked.scored, arrival.prediction, arrival.adapter))
    except PromptTooLong as error:
        raise too_long(path, context, len(prompt)) from error
    except ConstraintError as error:
        held = sampling.constraint.path if sampling.constraint else "$"
        raise InputError("unsupported_value", f"no answer can be held to it: {error}", held) from error
    except ValueError as error:
        raise InputError("invalid_parameter", str(error)) from error
