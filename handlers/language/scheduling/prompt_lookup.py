"""Draft an answer's next tokens from its prompt and itself: prompt lookup, also called n-gram speculation.

Where an answer repeats what stands before it, as an edited text or a quotation does, an earlier place foresees the next
tokens (arXiv:2304.04487). The engine computes some of them with the answer's last token, in one pass over the weights.
Each is kept only where the sampler chooses it anyway, so that the answer is the one without drafts (arXiv:2211.17192,
for a draft that is certain).
"""

from collections.abc import Sequence

NGRAM = 3  # tokens that must recur before a place is followed
MOST_TRUSTED = 256


class PromptLookup:
    """Follows an earlier place of a prompt and its answer for as long as it foresees each token.

    What a place foresees is compared with what comes, drafted or not. So a text that repeats nothing costs a look-up a
    token, and nothing of the engine. After a draft that was rejected as a whole, a place must have foreseen some tokens
    before its next ones are drafted; after each further one twice as many.

    Args:
        prompt: tokens.
        prediction: tokens that the answer probably begins with, and probably has more of later.
    """

    def __init__(self, prompt: Sequence[int], prediction: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}  # position after the latest occurrence of each n-gram
        self._place = -1  # position of the token that is foreseen; -1 for none
        self._foreseen = 0  # tokens in a row that the place has foreseen
        self._trusted = 0  # tokens in a row that a place must have foreseen before its next ones are drafted
        for token in (*prediction, *prompt):
            self.add(token)
        if prediction:
            self._place, self._foreseen = 0, len(prediction)

    def add(self, token: int) -> None:
        """Take the next token of the prompt or the answer."""
        if self._place >= 0 and self._tokens[self._place] == token:
            self._place += 1
            self._foreseen += 1
        else:
            self._place, self._foreseen = -1, 0
        self._tokens.append(token)
        if len(self._tokens) < NGRAM:
            return
        ngram = tuple(self._tokens[-NGRAM:])
        if self._place < 0:
            self._place = self._places.get(ngram, -1)
        self._places[ngram] = len(self._tokens)

    def draft(self, most: int) -> list[int]:
        """Return the tokens that probably come next; none where no place is trusted.

        Args:
            most: tokens, 0 or more.
        """
        if self._place < 0 or self._foreseen < self._trusted:
            return []
        period = len(self._tokens) - self._place  # what a place foresees beyond the last token is its own repetition
        return [self._tokens[self._place + i % period] for i in range(most)]

    def learn(self, drafted: int, accepted: int) -> None:
        """Trust later after a draft that was rejected, and sooner after one that was accepted, each as a whole."""
        if not accepted:
            self._trusted = min(max(1, 2 * self._trusted), MOST_TRUSTED)
        elif accepted == drafted:
            self._trusted //= 2
