"""Greedy transcription of log-mel features in batches, faster than `model.generate` and token for token the same.

Four things save time and change no token (tests hold them against `model.generate`; the order of float sums may still
move a tie between two tokens): windows are taken in the order of their length, so that those of a batch end together;
the encoder sees a few windows at a time, which stays within the processor's cache; a batch lets go of the windows that
have ended; 4-bit weights are dequantised once, not at every step. The decoder is transformers' own, with its own
key-value cache.

int8 is not independent of its batch: LLM.int8() keeps a column of activations in full precision where any row of the batch
exceeds a threshold. So a text in a hundred may differ from the one that `model.generate` writes for the window alone. bf16
rounds so coarsely that the order of sums shows too. The batch size is therefore a part of a cell's configuration.

The study's tables are made with `transcribe`: greedy, once, whatever comes. What people bring goes through `recognize`, which
asks how sure the model was and tries loops again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

ENCODER_POSITIONS = 1_600  # that the encoder sees at once on a CPU, one real window or eight mini ones: its cache holds what they need
ENCODER_WINDOWS_GPU = 32
LOOP_TOKENS = 48  # written in a loop before it is taken for one
LOOP_PERIOD_TOKENS = 16  # the longest stretch whose repetition is a loop


@dataclass(frozen=True)
class Written:
    """What was written for one window: token ids without the end, and how probable they were."""

    tokens: list[int]
    avg_logprob: float  # natural, mean over the tokens, the end included where it was reached
    no_speech: float | None  # Whisper's own probability that nobody speaks; None without such a token


def alone(count: int, hear: Callable[[range], list]) -> list:
    """One process hears all of `count` batches."""
    return hear(range(count))


def transcribe(
    model,
    tokenizer,
    features,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda done: None,
    share: Callable[[int, Callable[[range], list]], list] = alone,
) -> list[str]:
    """Raw hypotheses for `features` (`corpora.features.Features`, or an array of windows x mel bins x frames), one an utterance.

    Greedy, no timestamps, no fallback; language and task are the tokenizer's prefix. The windows of a long utterance are
    heard one by one and their texts joined. The model is put in evaluation mode and left there. `progress` gets the
    number of windows done after each batch. `share(count, hear)` may deal the batches to several processes: it returns what
    `hear(numbers)` gave in all of them. The batches are the same however many there are.
    """
    tokens = transcribe_tokens(model, tokenizer.prefix_tokens, features, batch_size, progress, share)
    pieces = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    owners = getattr(features, "utterances", range(len(features)))
    texts: dict[int, list[str]] = {}
    for owner, piece in zip(owners, pieces, strict=True):
        texts.setdefault(int(owner), []).append(piece.strip())
    return [" ".join(filter(None, parts)) for parts in texts.values()]


def transcribe_tokens(
    model,
    prompt: Sequence[int],
    features,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda done: None,
    share: Callable[[int, Callable[[range], list]], list] = alone,
) -> list[list[int]]:
    """Token ids after `prompt` for each window, without the end token; at most as many as `model.generate` would write."""
    import torch

    from asum_lib.models.loading import unpacked

    model.eval()
    whisper = model.get_base_model() if hasattr(model, "get_base_model") else model
    lengths = getattr(features, "kept", np.arange(len(features)))
    order = np.argsort(-np.asarray(lengths), kind="stable")  # the longest first: too little memory shows at once
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def hear(numbers: range) -> list[tuple[int, list[int]]]:
        heard = []
        with torch.inference_mode(), unpacked(whisper):
            for number in numbers:
                written = decode(whisper, prompt, encode(whisper, features, batches[number]))
                heard += zip(batches[number].tolist(), [one.tokens for one in written], strict=True)
                progress(len(heard))
        return heard

    return [tokens for _, tokens in sorted(share(len(batches), hear))]


def windows_at_once(config, device: str) -> int:
    """How many windows go through the encoder at once on `device`, cpu or cuda."""
    return max(1, ENCODER_POSITIONS // config.max_source_positions) if device == "cpu" else ENCODER_WINDOWS_GPU


def encode(whisper, features, items):
    """Encoder states (windows, positions, width)."""
    import torch

    size = windows_at_once(whisper.config, whisper.device.type)
    dtype = whisper.model.encoder.conv1.weight.dtype
    states = []
    for start in range(0, len(items), size):
        chosen = items[start : start + size]
        windows = features.batch(chosen) if hasattr(features, "batch") else np.asarray(features[chosen])
        states.append(whisper.model.encoder(torch.from_numpy(windows).to(whisper.device, dtype)).last_hidden_state)
    return torch.cat(states)


def decode(
    whisper,
    prompt: Sequence[int],
    states,
    *,
    temperature: float = 0.0,
    generator=None,
    stop_loops: bool = False,
    no_speech_id: int | None = None,
) -> list[Written]:
    """What the decoder writes for each of `states` (windows, positions, width); greedy at temperature 0, else drawn.

    `generator` is the torch generator to draw with. With `stop_loops` a window ends once its last `LOOP_TOKENS` repeat themselves.
    Probabilities are of what may be written: after the checkpoint's suppressed tokens are taken out, at temperature 1.
    """
    import torch

    settings, limit = whisper.generation_config, _new_tokens(whisper, len(prompt))
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    ends = torch.tensor(ends, device=states.device)
    never, not_first = settings.suppress_tokens or [], settings.begin_suppress_tokens or []
    written: list[list[int]] = [[] for _ in range(len(states))]
    logprobs: list[list[float]] = [[] for _ in range(len(states))]
    no_speech: list[float | None] = [None] * len(states)
    rows = list(range(len(states)))  # of the batch as it is now: the window that each row belongs to, None once it has ended
    cache, inputs = None, torch.tensor([list(prompt)] * len(states), device=states.device)
    for step in range(limit):
        output = whisper.model.decoder(input_ids=inputs, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        if step == 0 and no_speech_id is not None:
            no_speech = whisper.proj_out(output.last_hidden_state[:, 0]).float().softmax(dim=-1)[:, no_speech_id].tolist()
        logits = whisper.proj_out(output.last_hidden_state[:, -1]).float()
        logits[:, never] = -torch.inf
        if step == 0:
            logits[:, not_first] = -torch.inf
        chosen = _draw(logits / temperature, generator) if temperature else logits.argmax(dim=-1)
        sure = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(dim=-1)
        ended = torch.isin(chosen, ends).tolist()
        for row, (token, end, logprob) in enumerate(zip(chosen.tolist(), ended, sure.tolist(), strict=True)):
            if rows[row] is None:
                continue
            logprobs[rows[row]].append(logprob)
            if not end:
                written[rows[row]].append(token)
            if end or (stop_loops and is_loop(written[rows[row]])):
                rows[row] = None
        going = [row for row, window in enumerate(rows) if window is not None]
        if not going:
            break
        if 2 * len(going) <= len(rows):  # dropping rows copies the cache: worth it once half have ended
            kept = torch.tensor(going, device=states.device)
            cache.batch_select_indices(kept)
            states, chosen, rows = states[kept], chosen[kept], [rows[row] for row in going]
        inputs = chosen[:, None]
    means = [sum(own) / len(own) if own else 0.0 for own in logprobs]
    return [Written(*one) for one in zip(written, means, no_speech, strict=True)]


def _draw(logits, generator):
    import torch

    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def is_loop(tokens: Sequence[int]) -> bool:
    """Whether the last `LOOP_TOKENS` are one stretch of at most `LOOP_PERIOD_TOKENS`, over and over.

    >>> is_loop([7, 1, 2] + 16 * [3, 4, 5]), is_loop(list(range(60))), is_loop(15 * [3])
    (True, False, False)
    """
    tail = list(tokens[-LOOP_TOKENS:])
    if len(tail) < LOOP_TOKENS:
        return False
    return any(tail[period:] == tail[:-period] for period in range(1, LOOP_PERIOD_TOKENS + 1))


def _new_tokens(whisper, prompt_length: int) -> int:
    """How many tokens `model.generate` would write at most: its `max_new_tokens`, or what its `max_length` leaves beside the prompt."""
    settings, room = whisper.generation_config, whisper.config.max_target_positions - prompt_length
    if settings.max_new_tokens is not None:
        return min(settings.max_new_tokens, room)
    return room if settings.max_length is None else min(settings.max_length, room)
